#include "daemon/metrics/metrics_server.h"

#include <prometheus/collectable.h>

#include <catch2/catch.hpp>

#include "daemon/metrics/families.h"
#include "daemon/testing/http_get.h"

namespace latentd {
namespace {

class OneMetric : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    MetricFamilies families;
    AddSingle(families, "answer_total", "The answer.", prometheus::MetricType::Counter, 42);
    return families;
  }
};

TEST_CASE("metrics are served over HTTP") {
  const auto server = MetricsServer::Start("127.0.0.1:0", std::make_shared<OneMetric>());
  REQUIRE(server.ok());
  CHECK((*server)->address().substr(0, 10) == "127.0.0.1:");
  CHECK((*server)->address() != "127.0.0.1:0");
  const std::string answer = HttpGet((*server)->address(), "/metrics");
  CHECK(answer.find("HTTP/1.1 200 OK") == 0);
  CHECK(answer.find("# HELP answer_total The answer.") != std::string::npos);
  CHECK(answer.find("\nanswer_total 42") != std::string::npos);
  CHECK(HttpGet((*server)->address(), "/other").find("404") != std::string::npos);
}

TEST_CASE("an address in use is refused by name") {
  const auto first = MetricsServer::Start("127.0.0.1:0", std::make_shared<OneMetric>());
  REQUIRE(first.ok());
  const std::string address = (*first)->address();
  const auto second = MetricsServer::Start(address, std::make_shared<OneMetric>());
  CHECK(second.status().code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(second.status().message()) ==
        "metrics.listen: " + address + ": Address already in use");
}

TEST_CASE("the server can be started where one has stopped") {
  std::string address;
  {
    const auto first = MetricsServer::Start("127.0.0.1:0", std::make_shared<OneMetric>());
    REQUIRE(first.ok());
    address = (*first)->address();
    CHECK_FALSE(HttpGet(address, "/metrics").empty());
  }
  const auto second = MetricsServer::Start(address, std::make_shared<OneMetric>());
  CHECK(second.ok());
}

TEST_CASE("a host can be given by name") {
  const auto server = MetricsServer::Start("localhost:0", std::make_shared<OneMetric>());
  CHECK(server.ok());
}

}  // namespace
}  // namespace latentd
