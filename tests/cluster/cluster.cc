#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "tests/cluster/cluster.h"

#include <catch2/catch.hpp>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"

namespace latentd::testing {
namespace {

// Logs of the daemons of the running test case, for when it fails.
struct LogList {
  std::mutex mutex;
  std::vector<std::pair<std::string, std::string>> logs;  // node, path
};
LogList& Logs() {
  static LogList list;
  return list;
}

constexpr size_t kShownLogBytes = 12000;

class ShowLogsOfFailedTests : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;

  void testCaseStarting(const Catch::TestCaseInfo&) override {
    const std::lock_guard lock(Logs().mutex);
    Logs().logs.clear();
  }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (stats.totals.assertions.allOk()) return;
    const std::lock_guard lock(Logs().mutex);
    for (const auto& [node, path] : Logs().logs) {
      std::string text = ReadFile(path);
      if (text.size() > kShownLogBytes) {
        text = "[...]" + text.substr(text.size() - kShownLogBytes);
      }
      std::cerr << "---- " << node << " of '" << stats.testInfo.name << "'\n" << text << "\n";
    }
  }
};

std::string Mapping(const std::string& key, const std::string& inside, const std::string& indent) {
  return inside.empty() ? "" : absl::StrCat(indent, key, ": { ", inside, " }\n");
}

std::string Lane(const std::string& cache) {
  return absl::StrCat("    - { device: cpu, cache: ", cache, " }\n");
}

std::string Tls(const ClusterOptions& options) {
  if (options.tls.empty()) return "";
  return absl::StrCat(", tls: { cert: \"", options.tls.cert, "\", key: \"", options.tls.key,
                      "\", ca: \"", options.tls.ca, "\" }");
}

std::string NodeName(size_t index) { return absl::StrCat("node-", index + 1); }
std::string Address(uint16_t port) { return absl::StrCat("127.0.0.1:", port); }

std::string ConfigOf(const ClusterOptions& options, const std::vector<uint16_t>& ports,
                     size_t index) {
  std::string yaml =
      absl::StrCat("node: { id: ", NodeName(index), ", advertise: 127.0.0.1 }\n",               //
                   "control: { listen: \"", Address(ports[index]), "\"", Tls(options), " }\n",  //
                   "data:\n  lanes:\n", Lane(options.cache));
  for (const std::string& cache : options.more_lanes) absl::StrAppend(&yaml, Lane(cache));
  absl::StrAppend(&yaml,                                                                         //
                  Mapping("limits", options.limits, "  "),                                       //
                  Mapping("liveness", options.liveness, "  "),                                   //
                  Mapping("lane", options.lane, "  "),                                           //
                  "model: { name: ", options.model, ", layers: ", options.layers,                //
                  ", latent: 512, rope: 64, heads: 128 }\n",                                     //
                  "record: ", std::string(RecordFormatName(options.record)), "\n",               //
                  "replicas: ", options.replicas, "\n",                                          //
                  Mapping("session", options.session, ""), Mapping("drain", options.drain, ""),  //
                  Mapping("store", options.store, ""),                                           //
                  "metrics: { listen: \"", options.metrics ? "127.0.0.1:0" : "off", "\" }\n",    //
                  "log: { level: ", options.log_level, " }\n",                                   //
                  "membership:\n  backend: static\n  peers:\n");
  for (size_t peer = 0; peer < ports.size(); ++peer) {
    absl::StrAppend(&yaml, "    - { id: ", NodeName(peer), ", control: \"", Address(ports[peer]),
                    "\", capacity: ", options.cache, " }\n");
  }
  return yaml;
}

}  // namespace

CATCH_REGISTER_LISTENER(ShowLogsOfFailedTests)

std::ostream& operator<<(std::ostream& out, const Accounting& a) {
  return out << "pages free " << a.pages_free << ", chunks open " << a.chunks_open << " sealed "
             << a.chunks_sealed << " pinned " << a.chunks_pinned << ", in flight "
             << a.requests_in_flight << " requests " << a.bytes_in_flight << " bytes, sessions "
             << a.sessions;
}

Node::Node(std::string id, std::string endpoint, std::string config_path, std::string log_stem,
           TlsFiles tls, std::vector<std::string> command)
    : id_(std::move(id)),
      endpoint_(std::move(endpoint)),
      config_path_(std::move(config_path)),
      log_stem_(std::move(log_stem)),
      tls_(std::move(tls)),
      command_(std::move(command)),
      control_(endpoint_, tls_) {
  const std::lock_guard lock(Logs().mutex);
  Logs().logs.emplace_back(id_, log_stem_ + ".err");
}

void Node::Start() {
  end_expected_ = false;
  std::vector<std::string> argv = command_;
  for (const std::string& argument :
       {Runfile("daemon/latentd"), std::string("--config"), config_path_})
    argv.push_back(argument);
  process_ = std::make_unique<Process>(argv, log_stem_);
}

void Node::WaitUntilReady(absl::Duration limit) {
  const bool ready = Eventually(Scaled(limit), [&] {
    if (!process_->Running()) {
      throw std::runtime_error(absl::StrCat(id_, " ended while starting:\n", Log()));
    }
    if (!control_.Healthy(absl::Milliseconds(500))) return false;
    const auto status = control_.Status(absl::Milliseconds(500));
    return status.ok() && status->state() == v1::NODE_STATE_ACTIVE;
  });
  if (!ready) throw std::runtime_error(absl::StrCat(id_, " was not ready in time:\n", Log()));
}

void Node::Freeze() { process_->Freeze(); }

void Node::Kill() {
  end_expected_ = true;
  process_->Kill();
}

void Node::Terminate() {
  end_expected_ = true;
  process_->Signal(SIGTERM);
}

void Node::Restart() {
  process_->Kill();
  Start();
  WaitUntilReady();
}

v1::StatusResponse Node::Status() {
  auto status = control_.Status();
  if (!status.ok()) throw std::runtime_error(id_ + ": " + status.status().ToString());
  return *std::move(status);
}

Accounting Node::Account() {
  const v1::StatusResponse status = Status();
  Accounting sum{.sessions = status.sessions()};
  for (const v1::LaneStatus& lane : status.lanes()) {
    sum.pages_free += lane.pages_free();
    sum.chunks_open += lane.chunks_open();
    sum.chunks_sealed += lane.chunks_sealed();
    sum.chunks_pinned += lane.chunks_pinned();
    sum.requests_in_flight += lane.requests_in_flight();
    sum.bytes_in_flight += lane.bytes_in_flight();
  }
  return sum;
}

std::vector<v1::Chunk> Node::Chunks() {
  const auto answer = control_.Chunks();
  if (!answer.ok()) throw std::runtime_error(id_ + ": " + answer.status().ToString());
  return {answer->chunks().begin(), answer->chunks().end()};
}

std::map<std::string, double> Node::Metrics() {
  std::map<std::string, double> samples;
  const std::string text = HttpGet(Status().metrics_address(), "/metrics");
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    if (line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = 0;
    if (space == absl::string_view::npos || !absl::SimpleAtod(line.substr(space + 1), &value)) {
      throw std::runtime_error(absl::StrCat("not a metric: ", line));
    }
    samples.emplace(std::string(line.substr(0, space)), value);
  }
  return samples;
}

double SumOfLane(const std::map<std::string, double>& metrics, const std::string& name, int lane,
                 const std::string& label) {
  const std::string lane_label = absl::StrCat("lane=\"", lane, "\"");
  double sum = 0;
  bool found = false;
  for (const auto& [sample, value] : metrics) {
    if (!absl::StartsWith(sample, name + "{") || !absl::StrContains(sample, lane_label) ||
        !absl::StrContains(sample, label)) {
      continue;
    }
    sum += value;
    found = true;
  }
  if (!found) throw std::runtime_error(absl::StrCat("no metric ", name, " of lane ", lane));
  return sum;
}

Cluster::Cluster(ClusterOptions options) : folder_(FreshFolder("cluster")) {
  const std::vector<uint16_t> ports = FreePorts(options.nodes);
  for (size_t i = 0; i < ports.size(); ++i) {
    const std::string stem = absl::StrCat(folder_, "/", NodeName(i));
    WriteFile(stem + ".yaml", ConfigOf(options, ports, i));
    nodes_.push_back(
        std::make_unique<Node>(NodeName(i), Address(ports[i]), stem + ".yaml", stem, options.tls));
  }
  for (auto& node : nodes_) node->Start();
  for (auto& node : nodes_) node->WaitUntilReady();
}

Cluster::~Cluster() {
  for (auto& node : nodes_) {
    if (!node->process().Running() && !node->end_expected()) {
      FAIL_CHECK(node->id() << " ended by itself");
    }
    node->Thaw();
    // A stopping daemon waits a second for connections whose clients do not turn, as this one.
    node->Reconnect();
    node->process().Signal(SIGTERM);
  }
  const absl::Time end = absl::Now() + Scaled(absl::Seconds(15));
  for (auto& node : nodes_) {
    if (node->end_expected()) continue;
    const auto how = node->process().WaitForEnd(end - absl::Now());
    if (!how.has_value()) {
      FAIL_CHECK(node->id() << " did not stop after SIGTERM");
    } else if (how->exit_code != 0) {
      FAIL_CHECK(node->id() << " stopped with exit code " << how->exit_code << ", signal "
                            << how->signal);
    }
  }
}

bool BuiltWithSanitizer() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#else
  return false;
#endif
}

absl::Duration Scaled(absl::Duration limit) { return BuiltWithSanitizer() ? 4 * limit : limit; }

}  // namespace latentd::testing
