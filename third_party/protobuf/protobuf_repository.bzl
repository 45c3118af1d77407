"""The host's Protobuf library, protoc and the gRPC plugin."""

load("//third_party/pkgconfig:pkg_config_repository.bzl", "pkg_config", "write_library")

def _impl(repository_ctx):
    flags = pkg_config(repository_ctx, ["--cflags", "--libs", "protobuf"], "protobuf")
    for tool in ["protoc", "grpc_cpp_plugin"]:
        path = repository_ctx.which(tool)
        if not path:
            fail("%s was not found: run deploy/setup.sh" % tool)
        repository_ctx.symlink(path, "bin/" + tool)
    write_library(repository_ctx, "protobuf", flags, [], """
exports_files(["bin/protoc", "bin/grpc_cpp_plugin"])
""")

protobuf_repository = repository_rule(
    implementation = _impl,
    configure = True,
    environ = ["PKG_CONFIG_PATH"],
)
