#include "kernels/cuda/devices.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("only cuda:N names a device") {
  CHECK(ParseCudaDevice("cuda:0") == 0);
  CHECK(ParseCudaDevice("cuda:12") == 12);
  for (const char* name : {"", "cpu", "cuda", "cuda:", "cuda:x", "gpu:0", "cuda:1 2"}) {
    CAPTURE(name);
    CHECK_FALSE(ParseCudaDevice(name).has_value());
  }
}

TEST_CASE("there are devices or there is a reason why not, never both") {
  const CudaDevices found = ListCudaDevices();
  INFO("reason: " << found.reason);
  REQUIRE(found.devices.empty() != found.reason.empty());
  for (const CudaDevice& device : found.devices) {
    REQUIRE_FALSE(device.name.empty());
    REQUIRE(device.compute_major > 0);
    REQUIRE(device.multiprocessors > 0);
    REQUIRE(device.memory_bytes > 0);
    REQUIRE_FALSE(device.pci_bus_id.empty());
  }
}

TEST_CASE("a device that the kernels cannot run on is refused with what there is") {
  const CudaDevices two = {{{.index = 0, .name = "H100", .compute_major = 9, .compute_minor = 0},
                            {.index = 1, .name = "A100", .compute_major = 8, .compute_minor = 0}},
                           ""};
  REQUIRE(CheckCudaDevice(two, 0).ok());
  REQUIRE(CheckCudaDevice(two, 1) ==
          absl::FailedPreconditionError(
              "cuda:1 (A100) has compute capability 8.0; the kernels need 9.0"));
  REQUIRE(
      CheckCudaDevice(two, 2) ==
      absl::InvalidArgumentError("cuda:2 is not there: this host has 2 CUDA devices, cuda:0 to 1"));
  REQUIRE(CheckCudaDevice({{}, "no CUDA driver is installed"}, 0) ==
          absl::FailedPreconditionError("cuda:0: no CUDA driver is installed"));
}

TEST_CASE("a build without CUDA says so") {
  if (CudaRuntimeVersion() != 0) return;
  REQUIRE(ListCudaDevices().reason == "built without CUDA");
}

}  // namespace
}  // namespace latentd
