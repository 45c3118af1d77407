// Helpers for tests with real UCX workers over loopback.
#ifndef LATENTD_TRANSPORT_WORKER_TEST_UTIL_H_
#define LATENTD_TRANSPORT_WORKER_TEST_UTIL_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "transport/worker.h"

namespace latentd {

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

inline std::shared_ptr<Context> MakeContext(std::vector<std::string> transports) {
  // Tests never leave the machine.
  setenv("UCX_NET_DEVICES", "lo", 0);
  return ValueOrThrow(Context::Create({.transports = std::move(transports)}));
}

// Progresses every worker until the condition holds; false once the limit is over.
inline bool ProgressUntil(std::initializer_list<Worker*> workers,
                          const std::function<bool()>& condition,
                          std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    for (Worker* worker : workers) worker->Progress();
  }
  return true;
}

inline std::vector<std::byte> Pattern(size_t bytes, uint32_t seed) {
  std::vector<std::byte> out(bytes);
  uint32_t state = seed * 2654435761U + 1;
  for (std::byte& b : out) {
    state = state * 1664525U + 1013904223U;
    b = static_cast<std::byte>(state >> 24);
  }
  return out;
}

inline std::vector<std::byte> Bytes(std::string_view text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

inline std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline constexpr unsigned kTestAm = 1;
inline constexpr unsigned kTestAnswerAm = 2;

// Two workers of one context and an endpoint from the first to the second.
struct Pair {
  explicit Pair(const std::string& transport) : context(MakeContext({transport})) {
    a = ValueOrThrow(Worker::Create(context));
    b = ValueOrThrow(Worker::Create(context));
  }
  void Connect() {
    to_b = ValueOrThrow(a->Connect(b->address(), [this](absl::Status s) { failure = s; }));
  }
  bool Until(const std::function<bool()>& condition) {
    return ProgressUntil({a.get(), b.get()}, condition);
  }

  // Gives late callbacks their chance to misbehave.
  void Settle() {
    for (int i = 0; i < 2000; ++i) {
      if (a != nullptr) a->Progress();
      if (b != nullptr) b->Progress();
    }
  }

  std::shared_ptr<Context> context;
  std::unique_ptr<Worker> a;
  std::unique_ptr<Worker> b;
  std::unique_ptr<Endpoint> to_b;
  std::optional<absl::Status> failure;
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WORKER_TEST_UTIL_H_
