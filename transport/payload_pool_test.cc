#include "transport/payload_pool.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("a buffer that was given back is lent again") {
  PayloadPool pool;
  std::byte* first = nullptr;
  {
    PayloadBuffer buffer = pool.Take(100'000);
    first = buffer.data();
    CHECK(buffer.bytes().size() == 100'000);
  }
  PayloadBuffer again = pool.Take(120'000);  // the same power of two
  CHECK(again.data() == first);
  PayloadBuffer other = pool.Take(120'000);
  CHECK(other.data() != first);
}

TEST_CASE("the pool keeps no more idle memory than it was told") {
  PayloadPool pool(64 << 10);
  {
    PayloadBuffer a = pool.Take(40'000);
    PayloadBuffer b = pool.Take(40'000);
  }
  CHECK(pool.idle_bytes() == 64 << 10);
  { PayloadBuffer large = pool.Take(1 << 20); }
  CHECK(pool.idle_bytes() == 64 << 10);
}

TEST_CASE("moving a buffer moves its memory, and what it held before goes back") {
  PayloadPool pool;
  PayloadBuffer a = pool.Take(10);
  std::byte* memory = a.data();
  PayloadBuffer b = pool.Take(5000);
  b = std::move(a);
  CHECK(b.data() == memory);
  CHECK(b.bytes().size() == 10);
  CHECK(pool.lent_bytes() == 4096);
  CHECK(pool.idle_bytes() == 8192);
  b = PayloadBuffer();
  CHECK(b.empty());
  CHECK(pool.lent_bytes() == 0);
}

TEST_CASE("memory is aligned to a cache line, however little is asked for") {
  PayloadPool pool;
  for (const size_t bytes : {0, 1, 4097, 1 << 20}) {
    PayloadBuffer buffer = pool.Take(bytes);
    REQUIRE_FALSE(buffer.empty());
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % PayloadPool::kAlignment == 0);
  }
}

TEST_CASE("memory comes from where the pool was told, and goes back there") {
  size_t taken = 0, given_back = 0;
  alignas(PayloadPool::kAlignment) static std::byte memory[4096];
  {
    PayloadPool pool(8192, {.allocate = [&](size_t bytes) -> void* {
                              return bytes == 4096 && ++taken == 1 ? memory : nullptr;
                            },
                            .free = [&](void*, size_t bytes) { given_back += bytes; }});
    {
      PayloadBuffer buffer = pool.Take(100);
      CHECK(buffer.data() == memory);
      CHECK(pool.Take(5000).empty());
    }
    CHECK(given_back == 0);
  }
  CHECK(given_back == 4096);
}

TEST_CASE("memory that no machine has is not lent") {
  PayloadPool pool;
  CHECK(pool.Take(SIZE_MAX).empty());
  CHECK(pool.lent_bytes() == 0);
}

}  // namespace
}  // namespace latentd
