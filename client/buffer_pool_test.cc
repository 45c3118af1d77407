#include "client/buffer_pool.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("a buffer that was given back is lent again") {
  BufferPool pool;
  std::byte* first = nullptr;
  {
    PooledBuffer buffer = pool.Take(100'000);
    first = buffer.data();
    CHECK(buffer.bytes().size() == 100'000);
  }
  PooledBuffer again = pool.Take(120'000);  // the same power of two
  CHECK(again.data() == first);
  PooledBuffer other = pool.Take(120'000);
  CHECK(other.data() != first);
}

TEST_CASE("the pool keeps no more idle memory than it was told") {
  BufferPool pool(64 << 10);
  {
    PooledBuffer a = pool.Take(40'000);
    PooledBuffer b = pool.Take(40'000);
  }
  CHECK(pool.idle_bytes() == 64 << 10);
  { PooledBuffer large = pool.Take(1 << 20); }
  CHECK(pool.idle_bytes() == 64 << 10);
}

TEST_CASE("moving a buffer moves its memory") {
  BufferPool pool;
  PooledBuffer a = pool.Take(10);
  std::byte* memory = a.data();
  PooledBuffer b = std::move(a);
  CHECK(b.data() == memory);
  b = PooledBuffer();
  CHECK(b.empty());
}

}  // namespace
}  // namespace latentd
