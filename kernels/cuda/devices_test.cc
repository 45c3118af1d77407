#include "kernels/cuda/devices.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

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

TEST_CASE("a build without CUDA says so") {
  if (CudaRuntimeVersion() != 0) return;
  REQUIRE(ListCudaDevices().reason == "built without CUDA");
}

}  // namespace
}  // namespace latentd
