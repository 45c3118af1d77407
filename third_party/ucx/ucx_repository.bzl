"""UCX, found in this order:

1. $UCX_HOME, an installation with include/ and lib/ (or lib64/): what a node
   with InfiniBand should use, since the wheel has no verbs transport;
2. the PyPI wheel that deploy/setup.sh unpacks below $LATENTD_DEPS, by default
   $HOME/.cache/latentd;
3. pkg-config's `ucx`.

Binaries get a run path to the library they were linked with, after
$ORIGIN/../lib/latentd for installations that ship their own copy.
"""

load("//third_party/pkgconfig:pkg_config_repository.bzl", "split_flags")

UCX_WHEEL_VERSION = "1.22.0"

_LIBS = ["-lucp", "-luct", "-lucs", "-lucm"]

_BUILD = """package(default_visibility = ["//visibility:public"])

cc_library(
    name = "ucx",
    hdrs = glob({globs}, allow_empty = True),
    includes = {includes},
    linkopts = {linkopts},
)

# The ucx_perftest binary; empty when this UCX has none.
filegroup(
    name = "perftest",
    srcs = glob(["bin/ucx_perftest"], allow_empty = True),
)
"""

def _from_prefix(repository_ctx, prefix):
    """(include dirs, lib dir, bin dir) of an installation, or None."""
    if not repository_ctx.path(prefix + "/include/ucp/api/ucp.h").exists:
        return None
    for lib in ["lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"]:
        if repository_ctx.path(prefix + "/" + lib + "/libucp.so").exists:
            return [prefix + "/include"], prefix + "/" + lib, prefix + "/bin"
    return None

def _from_pkg_config(repository_ctx):
    tool = repository_ctx.which("pkg-config")
    if not tool:
        return None
    result = repository_ctx.execute([tool, "--cflags", "--libs", "ucx"])
    if result.return_code != 0:
        return None
    include_dirs, _, linkopts = split_flags(result.stdout.strip().split(" "))
    lib_dirs = [flag[2:] for flag in linkopts if flag.startswith("-L")]
    perftest = repository_ctx.which("ucx_perftest")
    bin_dir = str(perftest.dirname) if perftest else None
    return include_dirs, lib_dirs[0] if lib_dirs else None, bin_dir

def _find(repository_ctx):
    env = repository_ctx.os.environ
    home = env.get("UCX_HOME", "")
    if home:
        found = _from_prefix(repository_ctx, home)
        if not found:
            fail("UCX_HOME=%s has no include/ucp/api/ucp.h and lib*/libucp.so" % home)
        return found
    deps = env.get("LATENTD_DEPS", "")
    if not deps and env.get("HOME", ""):
        deps = env["HOME"] + "/.cache/latentd"
    if deps:
        found = _from_prefix(repository_ctx, "%s/ucx-%s/libucx" % (deps, UCX_WHEEL_VERSION))
        if found:
            return found
    found = _from_pkg_config(repository_ctx)
    if not found:
        fail("UCX was not found: run deploy/setup.sh or set UCX_HOME")
    return found

def _impl(repository_ctx):
    include_dirs, lib_dir, bin_dir = _find(repository_ctx)
    linkopts = ["-Wl,--push-state,--as-needed"]
    if lib_dir:
        linkopts += [
            "-L" + lib_dir,
            # Twice $: Bazel expands Make variables in linkopts.
            "-Wl,-rpath,$$ORIGIN/../lib/latentd",
            "-Wl,-rpath," + lib_dir,
        ]
    linkopts += _LIBS + ["-Wl,--pop-state"]
    includes = []
    for i, path in enumerate(include_dirs):
        repository_ctx.symlink(path, "include%d" % i)
        includes.append("include%d" % i)
    if bin_dir and repository_ctx.path(bin_dir + "/ucx_perftest").exists:
        repository_ctx.symlink(bin_dir + "/ucx_perftest", "bin/ucx_perftest")

    # Only UCX's own folders: a prefix such as /usr/local may hold much more.
    globs = ["%s/%s/**/*.h" % (i, part) for i in includes for part in ["ucm", "ucp", "ucs", "uct"]]
    repository_ctx.file("BUILD.bazel", _BUILD.format(
        globs = repr(globs),
        includes = repr(includes),
        linkopts = repr(linkopts),
    ))

ucx_repository = repository_rule(
    implementation = _impl,
    configure = True,
    environ = ["HOME", "LATENTD_DEPS", "PKG_CONFIG_PATH", "UCX_HOME"],
)
