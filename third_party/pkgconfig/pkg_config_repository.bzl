"""A repository with one cc_library for a library that pkg-config knows.

Headers below /usr/include are the compiler's system headers already; include
directories elsewhere (PKG_CONFIG_PATH) are linked into the repository.
"""

_BUILD = """package(default_visibility = ["//visibility:public"])

cc_library(
    name = {name},
    hdrs = glob({globs}, allow_empty = True),
    defines = {defines},
    includes = {includes},
    linkopts = {linkopts},
    deps = {deps},
)
"""

SYSTEM_INCLUDES = ["/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"]

def as_needed(libs):
    """Wraps linker flags so that a binary only depends on the libraries it uses."""
    return ["-Wl,--push-state,--as-needed"] + libs + ["-Wl,--pop-state"] if libs else []

def pkg_config(repository_ctx, arguments, what):
    """Runs pkg-config, or fails saying what to install."""
    tool = repository_ctx.which("pkg-config")
    if not tool:
        fail("pkg-config is not installed: run deploy/setup.sh")
    result = repository_ctx.execute([tool] + arguments)
    if result.return_code != 0:
        fail("%s was not found (pkg-config %s: %s): run deploy/setup.sh" %
             (what, " ".join(arguments), result.stderr.strip()))
    return [flag for flag in result.stdout.strip().split(" ") if flag]

def split_flags(flags):
    """Sorts compiler and linker flags into (include dirs, defines, linkopts)."""
    includes, defines, linkopts = [], [], []
    for flag in flags:
        if flag.startswith("-I"):
            if flag[2:].rstrip("/") not in SYSTEM_INCLUDES:
                includes.append(flag[2:])
        elif flag.startswith("-D"):
            defines.append(flag[2:])
        elif flag.startswith("-l") or flag.startswith("-L") or flag.startswith("-Wl,") or flag == "-pthread":
            if flag not in linkopts:
                linkopts.append(flag)
    return includes, defines, linkopts

def rpaths(linkopts):
    """Run paths for the -L directories among the flags."""
    return ["-Wl,-rpath," + flag[2:] for flag in linkopts if flag.startswith("-L")]

def write_library(repository_ctx, name, flags, deps = [], tail = ""):
    """Writes the repository's BUILD file and links its include directories."""
    include_dirs, defines, linkopts = split_flags(flags)
    includes, globs = [], []
    for i, path in enumerate(include_dirs):
        repository_ctx.symlink(path, "include%d" % i)
        includes.append("include%d" % i)
        globs.append("include%d/**" % i)
    repository_ctx.file("BUILD.bazel", _BUILD.format(
        name = repr(name),
        globs = repr(globs),
        defines = repr(defines),
        includes = repr(includes),
        linkopts = repr(as_needed(linkopts + rpaths(linkopts))),
        deps = repr(deps),
    ) + tail)

def _impl(repository_ctx):
    attr = repository_ctx.attr
    modules = attr.modules
    flags = pkg_config(repository_ctx, ["--cflags"] + modules, attr.name)
    if attr.libs:
        flags += pkg_config(repository_ctx, ["--libs-only-L"] + modules, attr.name)
        flags += ["-l" + lib for lib in attr.libs]
    elif attr.link_glob:
        libdir = pkg_config(repository_ctx, ["--variable=libdir", modules[0]], attr.name)[0]
        prefix, suffix = attr.link_glob.split("*")
        for path in repository_ctx.path(libdir).readdir():
            base = path.basename
            if base.startswith(prefix) and base.endswith(suffix):
                flags.append("-l" + base[len("lib"):-len(".so")])
        flags = sorted(flags)
    else:
        flags += pkg_config(repository_ctx, ["--libs"] + modules, attr.name)

    include_dirs = split_flags(flags)[0] + SYSTEM_INCLUDES
    if not [d for d in include_dirs if repository_ctx.path(d + "/" + attr.header).exists]:
        fail("%s: header %s was not found: run deploy/setup.sh" % (attr.name, attr.header))

    tail = ""
    if attr.build_file:
        tail = "\n" + "\n".join([
            line
            for line in repository_ctx.read(attr.build_file).split("\n")
            if not line.startswith("package(")
        ])
    for label, path in attr.overlay.items():
        repository_ctx.symlink(label, path)
    write_library(repository_ctx, attr.library, flags, [str(d) for d in attr.deps], tail)

pkg_config_repository = repository_rule(
    implementation = _impl,
    attrs = {
        "build_file": attr.label(doc = "More targets for the repository's BUILD file."),
        "deps": attr.string_list(doc = "Labels the library depends on."),
        "header": attr.string(mandatory = True, doc = "A header that must exist."),
        "library": attr.string(mandatory = True, doc = "The cc_library's name."),
        "libs": attr.string_list(doc = "Libraries to link instead of pkg-config's list."),
        "link_glob": attr.string(doc = "Shared libraries in pkg-config's libdir to link instead."),
        "modules": attr.string_list(mandatory = True, doc = "pkg-config's names."),
        "overlay": attr.label_keyed_string_dict(doc = "Files to link into the repository."),
    },
    configure = True,
    environ = ["PKG_CONFIG_PATH"],
    local = False,
)
