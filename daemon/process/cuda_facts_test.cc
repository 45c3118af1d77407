#include "daemon/process/cuda_facts.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("devices are named under the names that the configuration has for them") {
  CudaDevices found;
  found.devices = {{.index = 0, .name = "NVIDIA H100"}};
  CHECK(DescribeCuda(found, 13000) == "13.0, 1 device: cuda:0 NVIDIA H100");
  found.devices.push_back({.index = 1, .name = "NVIDIA H200"});
  CHECK(DescribeCuda(found, 12040) == "12.4, 2 devices: cuda:0 NVIDIA H100, cuda:1 NVIDIA H200");
}

TEST_CASE("without devices the reason is told") {
  CHECK(DescribeCuda({.devices = {}, .reason = "built without CUDA"}, 0) ==
        "no device: built without CUDA");
  CHECK(DescribeCuda({.devices = {}, .reason = "CUDA error 35"}, 13000) ==
        "13.0, no device: CUDA error 35");
}

TEST_CASE("whatever host this runs on, it is described") { CHECK_FALSE(DescribeCuda().empty()); }

}  // namespace
}  // namespace latentd
