"""What ``qemu`` offers and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from refbench.agent import I386, build_agent, compiler_probe, host_arch
from refbench.errors import BackendError, UsageError
from refbench.grammar import Option, Values
from refbench.housekeeping import SessionState
from refbench.vm import accel, kernels
from refbench.vm.kernels import Kernel
from refbench.vm.machine import find_qemu, qemu_version
from refbench.vm.spec import MachineSpec
from refbench.words import Availability
from refbench_qemu.boot import ALIGNMENT, ALIGNMENT_FRESH, Module, Recipe, initial_files
from refbench_qemu.session import QemuSession

DEVICE = "refpage"
"""The module of /dev/refpage, loaded wherever the kernel came with it."""
_SYSCALL = "refpage_create"
_NUMBER = "REFBENCH_NR_REFPAGE_CREATE"
_THP = "/sys/kernel/mm/transparent_hugepage/enabled"


class QemuBackend:
    """Guests in QEMU, on a kernel of one's choice."""

    name = "qemu"
    summary = "a guest in QEMU, on a patched kernel or on one of your own"
    options: Sequence[Option] = (
        Option(
            "kernel",
            "text",
            kernels.DEFAULT,
            "a kernel of `refbench kernel list`, or the path of an image",
        ),
        Option(
            "clock",
            "choice",
            "instructions",
            "instructions: time is the count of instructions, the same everywhere; real: seconds",
            choices=("instructions", "real"),
        ),
        Option("arch", "choice", "auto", "of the guest", choices=("auto", "x86_64", "arm64")),
        Option(
            "bits",
            "choice",
            "64",
            "of the agent's program; 32: on x86_64, as 32-bit callers of the kernel",
            choices=("64", "32"),
        ),
        Option("cpus", "int", 1, "CPUs of the guest; more need clock=real", minimum=1, maximum=8),
        Option(
            "memory",
            "size",
            512 << 20,
            "of the guest",
            minimum=128 << 20,
            maximum=64 << 30,
            multiple=1 << 20,
        ),
        Option("cpu", "text", "auto", "QEMU's CPU model: auto, max, qemu64, host, ..."),
        Option(
            "erms",
            "choice",
            "auto",
            "whether the CPU has fast string instructions; auto: not on the instruction clock",
            choices=("auto", "yes", "no"),
        ),
        Option("init-on-alloc", "bool", False, "the kernel clears pages when it allocates them"),
        Option(
            "thp",
            "choice",
            "madvise",
            "transparent huge pages of the guest",
            choices=("madvise", "always", "never"),
        ),
        Option(
            "fresh",
            "choice",
            "auto",
            "cell: each run starts from a snapshot of the guest after its boot; boot: from what "
            "the run before has left; auto: cell on the instruction clock, boot on the real one",
            choices=("auto", "boot", "cell"),
        ),
        Option("swap", "size", 0, "compressed swap (zram) in the guest", multiple=4096),
        Option("append", "text", "", "further words for the kernel's command line"),
        Option("module", "text", "", "a module of the kernel to load: NAME, and its arguments"),
    )

    def probe(self) -> Availability:
        """Whether QEMU is there and agents can be built; boots nothing."""
        try:
            find_qemu(host_arch())
        except BackendError as error:
            return Availability(False, error.message, error.remedy)
        return compiler_probe()

    def open(self, options: Values) -> QemuSession:
        """Build what is needed and boot.

        :raises UsageError: for options that do not go together.
        :raises BackendError: with the remedy.
        """
        arch = options.text("arch")
        kernel = kernels.find(options.text("kernel"), None if arch == "auto" else arch)
        recipe = recipe_of(kernel, options)
        agent = build_agent(agent_arch(kernel.arch, options))
        state = SessionState.create()
        try:
            how = accel.choose(recipe.spec, state.files, mark=state.mark)
            cpu = cpu_model(kernel.arch, how.name, options)
            recipe = replace(recipe, spec=replace(recipe.spec, accel=how.name, cpu=cpu))
            facts = {
                **facts_of(recipe),
                "bits": options.text("bits"),
                "accel": how.name,
                "accel-reason": how.reason,
            }
            return QemuSession(recipe, agent, state, facts=facts)
        except BaseException:
            state.close()
            raise


def agent_arch(arch: str, options: Values) -> str:
    """The architecture of the agent that measures in a guest of ``arch``.

    :raises UsageError: where no 32-bit program is built.
    """
    if options.text("bits") == "64":
        return arch
    if arch != "x86_64":
        raise UsageError(
            f"The option 'bits' of the target 'qemu' is for x86_64, and the guest is {arch}.",
            remedy="Leave it out.",
        )
    return I386


def recipe_of(kernel: Kernel, options: Values) -> Recipe:
    """What the guest of ``kernel`` is made of under ``options``, without hardware virtualisation.

    :raises UsageError: for options that do not go together.
    :raises BackendError: without QEMU or a compiler.
    """
    counted = options.text("clock") == "instructions"
    if counted and options.integer("cpus") != 1:
        raise UsageError(
            f"The target 'qemu' with cpus={options.integer('cpus')} cannot count instructions.",
            remedy="Leave cpus at 1, or take clock=real.",
        )
    initrd, guest, launcher = initial_files(kernel.arch)
    spec = MachineSpec(
        kernel=kernel.image,
        initrd=initrd,
        arch=kernel.arch,
        append=words(kernel, options),
        cpus=options.integer("cpus"),
        memory=options.integer("memory"),
        cpu=cpu_model(kernel.arch, "tcg", options),
        icount=counted,
        snapshots=fresh_each_time(options),
    )
    return Recipe(
        kernel=kernel,
        spec=spec,
        guest=guest,
        launcher=launcher,
        modules=modules_of(kernel, options.text("module")),
        swap=options.integer("swap"),
        # Not on the command line: there, a small guest's kernel overrules it.
        settings=((_THP, options.text("thp")),),
    )


def fresh_each_time(options: Values) -> bool:
    """Whether every run starts from the snapshot."""
    chosen = options.text("fresh")
    if chosen == "auto":
        return options.text("clock") == "instructions"
    return chosen == "cell"


def words(kernel: Kernel, options: Values) -> tuple[str, ...]:
    """The words of the kernel's command line that follow from the target."""
    found = [f"init_on_alloc={int(options.switch('init-on-alloc'))}"]
    if options.text("clock") == "instructions":
        step = ALIGNMENT_FRESH if fresh_each_time(options) else ALIGNMENT
        found.append(f"REFBENCH_ALIGN={step}")
    if _SYSCALL in kernel.syscalls:
        found.append(f"{_NUMBER}={kernel.syscalls[_SYSCALL]}")
    return (*found, *options.text("append").split())


def cpu_model(arch: str, accelerator: str, options: Values) -> str:
    """QEMU's name of the CPU with its options; docs/qemu.md has the reason for the default.

    :raises UsageError: where there is nothing to choose.
    """
    model, erms = options.text("cpu"), options.text("erms")
    if model == "auto":
        model = "host" if accelerator == "kvm" else "max"
    if arch != "x86_64":
        if erms != "auto":
            raise UsageError(
                f"The option 'erms' of the target 'qemu' is for x86_64, and the guest is {arch}.",
                remedy="Leave it out.",
            )
        return model
    if erms == "auto":
        if options.text("clock") != "instructions":
            return model
        erms = "no"
    sign = "+" if erms == "yes" else "-"
    return f"{model},{sign}erms,{sign}fsrm"


def modules_of(kernel: Kernel, wanted: str) -> tuple[Module, ...]:
    """The device's module where the kernel has it, and the one that was asked for.

    :raises UsageError: when the kernel does not have that one.
    """
    found = []
    if kernel.modules is not None and (kernel.modules / f"{DEVICE}.ko").is_file():
        found.append(Module(kernel.module(DEVICE)))
    name, _, arguments = wanted.strip().partition(" ")
    if name:
        found.append(Module(kernel.module(name), arguments))
    return tuple(found)


def facts_of(recipe: Recipe) -> Mapping[str, str]:
    """What the machine is, for the journal."""
    kernel, spec = recipe.kernel, recipe.spec
    patches = ", ".join(f"{patch.name}@{patch.digest[:8]}" for patch in kernel.patches)
    return {
        "kernel-name": kernel.name,
        "kernel-digest": kernel.digest[:16],
        "kernel-config": kernel.config or "its own",
        "kernel-patches": patches or ("none" if kernel.config else "not known"),
        "kernel-source": kernel.source or "not known",
        "kernel-compiler": kernel.compiler or "not known",
        "qemu": qemu_version(find_qemu(spec.arch)),
        "cpu-model": spec.cpu,
        "cpus": str(spec.cpus),
        "memory": str(spec.memory),
        "swap": str(recipe.swap),
        "fresh": "cell" if spec.snapshots else "boot",
        "guest": f"{recipe.guest.digest[:16]} {recipe.launcher.digest[:16]}",
        "modules": ", ".join(f"{m.path.stem} {m.arguments}".strip() for m in recipe.modules)
        or "none",
    }
