"""latentd_proto_library: .proto files compiled by the host's protoc.

Example, in proto/latentd/v1/BUILD.bazel:
    latentd_proto_library(
        name = "engine_proto",
        srcs = ["engine.proto"],
        deps = [":types_proto"],
    )

The import root is the workspace: .proto files import
"proto/latentd/v1/types.proto" and C++ includes "proto/latentd/v1/engine.pb.h"
and, with gRPC, "proto/latentd/v1/engine.grpc.pb.h".
"""

def _protos_label(label):
    """The filegroup of .proto files that goes with a latentd_proto_library."""
    if ":" not in label:
        label = label + ":" + label.split("/")[-1]
    return label + "_protos"

def latentd_proto_library(name, srcs, deps = [], grpc = True, visibility = None, **kwargs):
    """A cc_library of the messages, and with grpc the services, in srcs.

    Args:
      name: the cc_library's name.
      srcs: .proto files of this package.
      deps: other latentd_proto_library labels whose files srcs import.
      grpc: also generate gRPC services.
      visibility: public unless given.
      **kwargs: testonly, tags and the like.
    """
    visibility = visibility or ["//visibility:public"]
    native.filegroup(
        name = name + "_protos",
        srcs = srcs + [_protos_label(dep) for dep in deps],
        visibility = visibility,
        **kwargs
    )

    endings = ["pb"] + (["grpc.pb"] if grpc else [])
    stems = [src[:-len(".proto")] for src in srcs]
    headers = ["%s.%s.h" % (stem, ending) for stem in stems for ending in endings]
    sources = ["%s.%s.cc" % (stem, ending) for stem in stems for ending in endings]
    tools = ["@protobuf//:bin/protoc"]
    command = "$(location @protobuf//:bin/protoc) -I. -I$(GENDIR) -I/usr/include --cpp_out=$(GENDIR)"
    if grpc:
        tools.append("@protobuf//:bin/grpc_cpp_plugin")
        command += " --plugin=protoc-gen-grpc=$(location @protobuf//:bin/grpc_cpp_plugin) --grpc_out=$(GENDIR)"
    for src in srcs:
        command += " $(location %s)" % src

    # Generated headers are not ours to keep free of warnings.
    for header in headers:
        command += " && sed -i '1i #pragma GCC system_header' $(location %s)" % header
    native.genrule(
        name = name + "_gen",
        srcs = srcs + [":%s_protos" % name],
        outs = headers + sources,
        cmd = command,
        message = "Generating C++ for",
        tools = tools,
        visibility = ["//visibility:private"],
        **kwargs
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        copts = ["-std=c++20", "-w"],
        deps = deps + ["@protobuf"] + (["@grpc//:grpc++"] if grpc else []),
        visibility = visibility,
        **kwargs
    )
