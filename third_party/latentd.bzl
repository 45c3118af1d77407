"""C++ rules with latentd's compiler flags.

Example:
    latentd_cc_library(name = "router", srcs = ["router.cc"], hdrs = ["router.h"], deps = ["@absl"])
    latentd_cc_test(name = "router_test", srcs = ["router_test.cc"], deps = [":router"])
"""

LATENTD_COPTS = [
    "-std=c++20",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    # Designated initialisers may leave members to their defaults.
    "-Wno-missing-field-initializers",
    # Vector types in Highway code change no ABI that leaves a binary.
    "-Wno-psabi",
    # GCC 12 reports these falsely in its own library's inlined code.
    "-Wno-restrict",
    "-Wno-error=array-bounds",
    "-Wno-error=maybe-uninitialized",
    "-Wno-error=stringop-overflow",
    "-Wno-error=stringop-overread",
    "-Wno-error=free-nonheap-object",
]

def latentd_cc_library(name, copts = [], visibility = None, **kwargs):
    """cc_library with latentd's flags, public unless visibility says otherwise."""
    native.cc_library(
        name = name,
        copts = LATENTD_COPTS + copts,
        visibility = visibility or ["//visibility:public"],
        **kwargs
    )

def latentd_cc_binary(name, copts = [], visibility = None, **kwargs):
    """cc_binary with latentd's flags, public unless visibility says otherwise."""
    native.cc_binary(
        name = name,
        copts = LATENTD_COPTS + copts,
        visibility = visibility or ["//visibility:public"],
        **kwargs
    )

def latentd_cc_test(name, copts = [], deps = [], size = "small", catch2 = True, visibility = None, **kwargs):
    """cc_test with latentd's flags.

    Args:
      name: the test's name.
      copts: more compiler flags.
      deps: libraries; Catch2's main is added unless catch2 is False.
      size: small unless given.
      catch2: False for a test with its own main().
      visibility: public unless given.
      **kwargs: srcs, args, tags, data and the like. Tags `no_tsan` and
        `no_asan` keep a test out of --config=tsan and --config=asan.
    """
    native.cc_test(
        name = name,
        size = size,
        copts = LATENTD_COPTS + copts,
        deps = deps + (["@catch2//:main"] if catch2 else []),
        visibility = visibility or ["//visibility:public"],
        **kwargs
    )
