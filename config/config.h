// `Config` is what one daemon was told: every key of the YAML file as a plain value, defaults
// filled in, units in the names. config/loader.h makes it from YAML and has checked what can be
// checked without touching the machine; config/latentd.example.yaml says what each value means.
//
// A value; any thread.
#ifndef LATENTD_CONFIG_CONFIG_H_
#define LATENTD_CONFIG_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/mla.h"
#include "routing/ids.h"
#include "routing/layout.h"

namespace latentd {

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;

struct NodeConfig {
  NodeId id;
  std::string advertise = "127.0.0.1";  // host or address under which others reach this node

  friend bool operator==(const NodeConfig&, const NodeConfig&) = default;
};

struct TlsConfig {
  std::string cert_path;  // PEM: the daemon's certificate, then any intermediate ones
  std::string key_path;   // PEM, without a pass phrase
  std::string ca_path;    // PEM: authorities that the other side's certificate must come from

  friend bool operator==(const TlsConfig&, const TlsConfig&) = default;
};

struct ControlConfig {
  std::string listen = "0.0.0.0:7400";  // "host:port", checked; port 0: any free port
  std::optional<TlsConfig> tls;         // none: plaintext

  friend bool operator==(const ControlConfig&, const ControlConfig&) = default;
};

enum class DeviceKind : uint8_t { kCpu = 1, kCuda = 2 };

struct Device {
  DeviceKind kind = DeviceKind::kCpu;
  uint32_t index = 0;  // of the CUDA device; 0 for the CPU

  friend bool operator==(const Device&, const Device&) = default;
};

// "cpu" or "cuda:1".
std::string ToString(const Device& device);

struct LaneConfig {
  Device device;
  uint64_t cache_bytes = 0;
  uint32_t threads = 1;        // helpers of a cpu lane, besides its own; cuda lanes have none
  std::vector<uint32_t> cpus;  // the lane and its helpers run on these; empty: anywhere

  friend bool operator==(const LaneConfig&, const LaneConfig&) = default;
};

enum class LaneIdle : uint8_t {
  kPoll = 1,      // spin for ever: lowest latency, one core a lane
  kSleep = 2,     // sleep as soon as nothing is in flight
  kAdaptive = 3,  // spin for spin_us after the last work, then sleep
};

struct LaneIdleConfig {
  LaneIdle idle = LaneIdle::kAdaptive;
  uint64_t spin_us = 50;

  friend bool operator==(const LaneIdleConfig&, const LaneIdleConfig&) = default;
};

struct LimitsConfig {
  uint32_t inflight_per_session = 64;
  uint64_t inflight_bytes_per_session = 256 * kMiB;
  uint32_t inflight_per_lane = 4096;
  uint64_t inflight_bytes_per_lane = 1 * kGiB;
  uint32_t chunks_per_request = 4096;
  uint32_t rows_per_request = 16384;
  uint64_t work_per_request = uint64_t{1} << 27;
  uint64_t open_bytes_per_session = 0;  // 0: half of the lane's cache
  uint32_t sessions = 1024;
  uint32_t chunks = 1u << 20;  // in one lane's store

  friend bool operator==(const LimitsConfig&, const LimitsConfig&) = default;
};

struct LivenessConfig {
  uint64_t ping_ms = 500;
  uint64_t dead_ms = 2000;  // at least twice ping_ms

  friend bool operator==(const LivenessConfig&, const LivenessConfig&) = default;
};

struct DataConfig {
  std::vector<std::string>
      transports;                 // UCX names ("tcp", "shm", "rc", ...); empty: whatever UCX finds
  std::vector<LaneConfig> lanes;  // at least one
  LaneIdleConfig lane;
  LimitsConfig limits;
  LivenessConfig liveness;

  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

// A model's geometry. `name`, `layers`, the record widths and `rope` make the layout; the rest is
// what a frontend computes with.
struct ModelConfig {
  std::string name;
  uint32_t layers = 0;
  uint32_t latent_width = 512;
  uint32_t rope_width = 64;
  uint32_t heads = 0;
  uint32_t nope_width = 128;   // per head
  uint32_t value_width = 128;  // per head
  RopeParameters rope;
  double softmax_scale = 0;  // as given, else by SoftmaxScaleRule

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// (nope + rope)^-0.5 * m^2 with m = 0.1 * mscale_all_dim * ln(factor) + 1 under yarn, else 1.
double SoftmaxScaleRule(const ModelConfig& model);

enum class MembershipBackend : uint8_t { kStatic = 1, kEtcd = 2 };

struct PeerConfig {
  NodeId id;
  std::string control_address;  // "host:port"
  uint64_t capacity_bytes = 0;  // 0 in every peer or in none; 0: all weigh the same

  friend bool operator==(const PeerConfig&, const PeerConfig&) = default;
};

// Towards etcd.
struct EtcdTlsConfig {
  std::string ca_path;    // PEM: authorities that its servers' certificates must come from
  std::string cert_path;  // PEM: this node's, for an etcd that asks for one; with key_path or empty
  std::string key_path;

  friend bool operator==(const EtcdTlsConfig&, const EtcdTlsConfig&) = default;
};

struct MembershipConfig {
  MembershipBackend backend = MembershipBackend::kStatic;
  std::vector<PeerConfig> peers;  // static: every node, this one too; empty: this node is alone
  uint64_t epoch = 1;  // static: of the table that the peers make; grows with each change
  // Of etcd.
  std::vector<std::string> endpoints;  // "host:port"
  std::string cluster = "default";
  uint64_t lease_ms = 3000;
  std::string user;  // with password_path, or both empty
  std::string password_path;
  std::optional<EtcdTlsConfig> tls;  // none: plaintext

  friend bool operator==(const MembershipConfig&, const MembershipConfig&) = default;
};

// Whose copies a publish or seal waits for.
enum class Acks : uint8_t { kAll = 1, kPrimary = 2 };

struct MigrationConfig {
  uint64_t rate_bytes_per_s = 0;  // 0: as fast as it goes
  uint32_t parallel = 4;          // ranges of records under way

  friend bool operator==(const MigrationConfig&, const MigrationConfig&) = default;
};

struct ScrubConfig {
  uint64_t rate_bytes_per_s = 16 * kMiB;  // of each lane; 0: never
  uint64_t every_ms = 600'000;            // from the beginning of one pass to that of the next

  friend bool operator==(const ScrubConfig&, const ScrubConfig&) = default;
};

struct CalibrationConfig {
  bool at_start = true;
  uint64_t period_ms = 3'600'000;             // 0: only at start and when asked to
  double share = 0.1;                         // of an idle lane's time while it is timed
  uint64_t longest_batch_us = 20'000;         // of those that time a lane
  uint64_t link_rate_bytes_per_s = 4 * kMiB;  // 0: links are not timed

  friend bool operator==(const CalibrationConfig&, const CalibrationConfig&) = default;
};

struct StoreConfig {
  double high_watermark = 0.95;        // of a lane's pages: above it, eviction starts...
  double low_watermark = 0.90;         // ...and goes on down to here
  uint64_t lease_default_ms = 60'000;  // a chunk's lease when the request names none

  friend bool operator==(const StoreConfig&, const StoreConfig&) = default;
};

struct SessionConfig {
  uint64_t ttl_ms = 30'000;  // a session that is not heard of for so long is closed

  friend bool operator==(const SessionConfig&, const SessionConfig&) = default;
};

struct DrainConfig {
  uint64_t timeout_ms = 30'000;

  friend bool operator==(const DrainConfig&, const DrainConfig&) = default;
};

struct MetricsConfig {
  std::string listen = "127.0.0.1:7401";  // "host:port", checked; empty: off

  friend bool operator==(const MetricsConfig&, const MetricsConfig&) = default;
};

enum class LogLevel : uint8_t { kTrace = 1, kDebug = 2, kInfo = 3, kWarn = 4, kError = 5 };
enum class LogFormat : uint8_t { kText = 1, kJson = 2 };

struct LogConfig {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;

  friend bool operator==(const LogConfig&, const LogConfig&) = default;
};

struct Config {
  NodeConfig node;
  ControlConfig control;
  DataConfig data;
  ModelConfig model;
  RecordFormat record = RecordFormat::kBf16;
  MembershipConfig membership;
  uint32_t replicas = 1;
  Acks acks = Acks::kAll;
  MigrationConfig migration;
  ScrubConfig scrub;
  CalibrationConfig calibration;
  StoreConfig store;
  SessionConfig session;
  DrainConfig drain;
  MetricsConfig metrics;
  LogConfig log;

  friend bool operator==(const Config&, const Config&) = default;
};

// The layout of the records that this daemon holds.
Layout LayoutOf(const Config& config);

// "host:port" under which others reach this node's gRPC server: node.advertise with the port of
// control.listen.
std::string AdvertisedControlAddress(const Config& config);

// Sum over the lanes.
uint64_t TotalCacheBytes(const Config& config);

}  // namespace latentd

#endif  // LATENTD_CONFIG_CONFIG_H_
