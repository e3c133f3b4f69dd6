/* SPDX-License-Identifier: MIT */
/*
 * refbench.native._exporter.Memory: memory at an address as a Python buffer, with a count of the
 * views that are out. A class written in Python cannot export a buffer before Python 3.12.
 */
#include <Python.h>

#include <stdint.h>

struct memory {
	PyObject_HEAD
	void *address;		/* NULL: detached */
	Py_ssize_t size;
	Py_ssize_t views;
};

static PyObject *attach(PyObject *self, PyObject *args)
{
	struct memory *m = (struct memory *)self;
	unsigned long long address;
	Py_ssize_t size;

	if (!PyArg_ParseTuple(args, "Kn", &address, &size))
		return NULL;
	m->address = (void *)(uintptr_t)address;
	m->size = size;
	Py_RETURN_NONE;
}

static PyObject *detach(PyObject *self, PyObject *unused)
{
	struct memory *m = (struct memory *)self;

	(void)unused;
	if (m->views) {
		PyErr_Format(PyExc_BufferError,
			     "The mapping cannot be closed: %zd views of it are in use. Release "
			     "them (memoryview.release(), del array) first.",
			     m->views);
		return NULL;
	}
	m->address = NULL;
	m->size = 0;
	Py_RETURN_NONE;
}

static int get_buffer(PyObject *self, Py_buffer *view, int flags)
{
	struct memory *m = (struct memory *)self;

	if (!m->address) {
		view->obj = NULL;
		PyErr_SetString(PyExc_ValueError, "The mapping is closed.");
		return -1;
	}
	if (PyBuffer_FillInfo(view, self, m->address, m->size, 0, flags))
		return -1;
	m->views++;
	return 0;
}

static void release_buffer(PyObject *self, Py_buffer *view)
{
	(void)view;
	((struct memory *)self)->views--;
}

static Py_ssize_t length(PyObject *self)
{
	return ((struct memory *)self)->size;
}

static void dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

	release(self);
	Py_DECREF(type);
}

static PyMethodDef methods[] = {
	{ "_attach", attach, METH_VARARGS, "Export size bytes at an address from now on." },
	{ "_detach", detach, METH_NOARGS, "Export nothing; BufferError while views are out." },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
	{ Py_tp_doc, "Memory at an address, as a buffer." },
	{ Py_tp_dealloc, dealloc },
	{ Py_tp_methods, methods },
	{ Py_bf_getbuffer, get_buffer },
	{ Py_bf_releasebuffer, release_buffer },
	{ Py_sq_length, length },
	{ 0, NULL },
};

static PyType_Spec spec = {
	.name = "refbench.native._exporter.Memory",
	.basicsize = sizeof(struct memory),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "_exporter",
	.m_size = 0,
};

PyMODINIT_FUNC PyInit__exporter(void)
{
	PyObject *module = PyModule_Create(&definition);
	PyObject *type = module ? PyType_FromSpec(&spec) : NULL;

	if (type && !PyModule_AddObject(module, "Memory", type))
		return module;
	Py_XDECREF(type);
	Py_XDECREF(module);
	return NULL;
}
