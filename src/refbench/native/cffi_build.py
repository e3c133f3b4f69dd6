"""Builds ``refbench.native._cffi`` (API mode). Run by setup.py; paths are from the root."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

_NATIVE = Path("src/refbench/native")

ffibuilder = FFI()
ffibuilder.cdef("""
    enum rb_failure { RB_OK, RB_UNSUPPORTED, RB_LIMIT_HIT, RB_WRONG_CONTENT, RB_USAGE, ... };
    #define RB_MAX_OPTIONS ...
    #define RB_MAP_POPULATE ...

    struct rb_error {
        enum rb_failure kind;
        int err;
        uint64_t wanted;
        uint64_t limit;
        char message[...];
        char remedy[...];
        ...;
    };
    struct rb_pattern { const unsigned char *page; bool is_byte; unsigned char byte; ...; };
    struct rb_counters { ...; };
    struct rb_option { const char *key; const char *value; ...; };
    struct rb_context {
        size_t page_size;
        struct rb_pattern pattern;
        struct rb_counters *counters;
        struct rb_option options[...];
        size_t option_count;
        bool unprivileged;
        ...;
    };
    struct rb_mechanism { const char *name; bool applies_pattern; bool owns_signals; ...; };

    const struct rb_mechanism *rb_mechanism_find(const char *name, size_t length);

    int rb_setup(const struct rb_mechanism *, struct rb_context *, struct rb_error *);
    void *rb_map(const struct rb_mechanism *, struct rb_context *, size_t, unsigned int,
                 struct rb_error *);
    int rb_unmap(const struct rb_mechanism *, struct rb_context *, void *, size_t);
    int rb_settle(const struct rb_mechanism *, struct rb_context *, struct rb_error *);
    int rb_before_fork(const struct rb_mechanism *, struct rb_context *, struct rb_error *);
    int rb_after_fork_child(const struct rb_mechanism *, struct rb_context *, struct rb_error *);
    uint64_t rb_held(const struct rb_mechanism *, struct rb_context *);
    void rb_facts(const struct rb_mechanism *, struct rb_context *, char *, size_t);
    void rb_teardown(const struct rb_mechanism *, struct rb_context *);
    void rb_read_counters(const struct rb_context *, uint64_t *);
""")
ffibuilder.set_source(
    "refbench.native._cffi",
    '#include "binding.h"',
    sources=[
        str(_NATIVE / "library.c"),
        *sorted(str(path) for path in (_NATIVE / "mechanisms").glob("*.c")),
    ],
    include_dirs=[str(_NATIVE)],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=["-std=c11", "-O2", "-pthread"],
    extra_link_args=["-pthread"],
    optional=True,
)
