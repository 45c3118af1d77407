"""cuda_library: .cu files compiled by nvcc into a cc_library.

Example:
    cuda_library(
        name = "decode_cuda",
        srcs = ["decode.cu"],
        hdrs = ["decode_cuda.h"],
        deps = [":decode_params"],
    )

Without CUDA (see cuda_repository.bzl) the library keeps its headers and
dependencies and has no objects; ask LATENTD_HAVE_CUDA (@cuda//:config, which
it exports) in C++ and if_cuda() in BUILD files.
"""

load("@cuda//:defs.bzl", "CUDA_ARCHS", "CUDA_AVAILABLE", "CUDA_HOME")

_HEADERS = [".h", ".hh", ".hpp", ".cuh", ".inc", ".inl"]

def _nvcc_objects_impl(ctx):
    context = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context

    args = ctx.actions.args()
    args.add_all(["-std=c++20", "-c", "-Xcompiler", "-fPIC,-Wall,-Wextra,-Wno-unused-parameter"])
    for arch in CUDA_ARCHS:
        args.add("-gencode=arch=compute_%s,code=sm_%s" % (arch, arch))
    mode = ctx.var["COMPILATION_MODE"]
    if mode == "dbg":
        args.add_all(["-g", "-O0", "-lineinfo"])
    else:
        args.add_all(["-O3", "-lineinfo"])
        if mode == "opt":
            args.add("-DNDEBUG")
    args.add_all(context.defines, format_each = "-D%s")
    args.add_all(ctx.attr.local_defines, format_each = "-D%s")
    args.add_all(["-I.", "-I" + ctx.bin_dir.path])
    args.add_all(context.quote_includes, format_each = "-I%s")
    args.add_all(context.includes, format_each = "-I%s")

    # nvcc adds its own toolkit's headers itself.
    args.add_all([
        "-isystem=" + d
        for d in context.system_includes.to_list()
        if "external/cuda/" not in d
    ])
    args.add_all(ctx.attr.copts)

    objects = []
    headers = [f for f in ctx.files.srcs if "." + f.extension in _HEADERS]
    for src in ctx.files.srcs:
        if src in headers:
            continue
        out = ctx.actions.declare_file("_nvcc/%s/%s.pic.o" % (ctx.label.name, src.basename[:-len(src.extension) - 1]))
        ctx.actions.run(
            executable = CUDA_HOME + "/bin/nvcc",
            arguments = [args, src.path, "-o", out.path],
            inputs = depset([src] + headers + ctx.files.hdrs, transitive = [context.headers]),
            outputs = [out],
            mnemonic = "CudaCompile",
            progress_message = "Compiling CUDA %s" % src.short_path,
            use_default_shell_env = True,
        )
        objects.append(out)
    return [DefaultInfo(files = depset(objects))]

_nvcc_objects = rule(
    implementation = _nvcc_objects_impl,
    attrs = {
        "copts": attr.string_list(),
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = True),
        "local_defines": attr.string_list(),
        "srcs": attr.label_list(allow_files = [".cu"] + _HEADERS),
    },
)

def cuda_library(
        name,
        srcs = [],
        hdrs = [],
        deps = [],
        copts = [],
        local_defines = [],
        visibility = None,
        **kwargs):
    """Compiles .cu files and offers them as a cc_library.

    Args:
      name: the cc_library's name.
      srcs: .cu files, and headers only they include.
      hdrs: headers for dependents.
      deps: cc_library labels; @cuda//:cudart is added.
      copts: more nvcc flags.
      local_defines: defines for these .cu files alone.
      visibility: public unless given.
      **kwargs: testonly, tags and the like.
    """
    deps = [d for d in deps if d != "@cuda//:cudart"] + ["@cuda//:cudart"]
    objects = []
    if CUDA_AVAILABLE and srcs:
        _nvcc_objects(
            name = name + "_nvcc",
            srcs = srcs,
            hdrs = hdrs,
            copts = copts,
            local_defines = local_defines,
            deps = deps,
            visibility = ["//visibility:private"],
            **kwargs
        )
        objects = [":%s_nvcc" % name]
    native.cc_library(
        name = name,
        srcs = objects,
        hdrs = hdrs,
        # A shared library of these objects would miss cudart's hidden symbols.
        linkstatic = True,
        alwayslink = True,
        deps = deps,
        visibility = visibility or ["//visibility:public"],
        **kwargs
    )
