// Catch2's main(). Honours `bazel test --test_filter=<Catch2 test spec>`.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdlib>

int main(int argc, char* argv[]) {
  Catch::Session session;
  if (const int rc = session.applyCommandLine(argc, argv); rc != 0) return rc;
  const char* filter = std::getenv("TESTBRIDGE_TEST_ONLY");
  if (filter != nullptr && filter[0] != '\0') {
    session.configData().testsOrTags.emplace_back(filter);
  }
  return session.run();
}
