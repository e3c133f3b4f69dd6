"""PDFium for real: its library, the program that renders with it, the document that it renders."""
