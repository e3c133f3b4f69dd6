"""A source tree with the outer shape of Linux, which make and gcc build in a moment.

What a build does around make is the same for it: copying, patching, configuring, modules, what is
kept. Its ``bzImage`` is a text, and its modules are not refbench's.
"""

from __future__ import annotations

from pathlib import Path

MAKEFILE = """\
# SPDX-License-Identifier: GPL-2.0
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 5
EXTRAVERSION =
NAME = A small one

allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) .config
\tsed -i '/CONFIG_REFUSED/d' .config
\tmkdir -p include/generated
\tsed -n 's/^\\(CONFIG_[A-Z0-9_]*\\)=/#define \\1 /p' .config >include/generated/autoconf.h

mrproper:
\trm -rf .config include/config

bzImage: init/main.o
\tmkdir -p arch/x86/boot include/config arch/x86/include/generated/uapi/asm
\t$(CC) -nostdlib -static -Wl,--build-id,-e,start -o vmlinux init/main.o
\techo "$(KBUILD_BUILD_USER) $(KBUILD_BUILD_TIMESTAMP)" >arch/x86/boot/bzImage
\tcat init/main.c >>arch/x86/boot/bzImage
\techo '0000 T start' >System.map
\techo '6.12.5$(LOCALVERSION)' >include/config/kernel.release
\techo '#define __NR_read 0' >arch/x86/include/generated/uapi/asm/unistd_64.h
\techo '#define __NR_refpage_create 463' >>arch/x86/include/generated/uapi/asm/unistd_64.h

init/main.o: init/main.c
\t@echo "  CC      $@"
\t$(CC) -Wp,-MMD,init/.main.o.d -include include/generated/autoconf.h -c -o $@ $<

modules:
\ttest -z "$(M)"

.PHONY: allnoconfig mrproper bzImage modules
"""
MAIN = """\
/* The beginning. */
int count;

void start(void)
{
\tcount = 1;
}

/* The end. */
"""
PATCH = """\
From: Somebody <somebody@example.org>
Subject: [PATCH] count to two

---
--- a/init/main.c
+++ b/init/main.c
@@ -4,5 +4,5 @@
 void start(void)
 {
-\tcount = 1;
+\tcount = 2;
 }
"""


def plant(tree: Path, main: str = MAIN, makefile: str = MAKEFILE) -> Path:
    """Write the tree, and return it."""
    (tree / "init").mkdir(parents=True)
    (tree / "Makefile").write_text(makefile)
    (tree / "Kconfig").write_text("config REFUSED\n\tbool\n")
    (tree / "init" / "main.c").write_text(main)
    return tree


def patches(folder: Path, *texts: str) -> Path:
    """A folder of patches, applied in the order of ``texts``."""
    folder.mkdir()
    for number, text in enumerate(texts, 1):
        (folder / f"{number:04}-change.patch").write_text(text)
    return folder
