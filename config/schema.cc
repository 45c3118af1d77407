#include "config/schema.h"

#include "absl/strings/str_join.h"
#include "config/model_schema.h"
#include "config/presets.h"
#include "routing/routing_table.h"

namespace latentd {
namespace {

constexpr uint64_t kMaxBytes = 1024 * 1024 * kGiB;
constexpr uint64_t kMinuteMs = 60'000;
constexpr uint64_t kHourMs = 60 * kMinuteMs;
constexpr uint64_t kWeekMs = 7 * 24 * kHourMs;
constexpr size_t kMaxLanes = 64;
constexpr uint64_t kMaxCpus = 4096;

Schema<NodeConfig> NodeSchema() {
  using C = NodeConfig;
  return {
      ScalarKey("id", &C::id, NameCodec(),
                "Name of this node: unique in its cluster, and the same after a restart.",
                Presence::kRequired),
      ScalarKey("advertise", &C::advertise, HostCodec(),
                "Host name or address under which clients and other nodes reach this one, without "
                "port."),
  };
}

Schema<TlsConfig> TlsSchema() {
  using C = TlsConfig;
  return {
      ScalarKey("cert", &C::cert_path, TextCodec(), "PEM file of this node's certificate.",
                Presence::kRequired),
      ScalarKey("key", &C::key_path, TextCodec(), "PEM file of its private key.",
                Presence::kRequired),
      ScalarKey("ca", &C::ca_path, TextCodec(),
                "PEM file of the authorities whose certificates are trusted.", Presence::kRequired),
  };
}

Schema<ControlConfig> ControlSchema() {
  using C = ControlConfig;
  return {
      ScalarKey("listen", &C::listen, HostPortCodec(PortZero::kAllowed),
                "Address of the gRPC server for sessions, routing tables and administration. Port "
                "0 takes any free port."),
      OptionalMapKey("tls", &C::tls, TlsSchema(),
                     "Mutual TLS for the control plane. Without it, gRPC is in plaintext."),
  };
}

Schema<LaneConfig> LaneSchema() {
  using C = LaneConfig;
  return {
      ScalarKey("device", &C::device, DeviceCodec(),
                "Where the lane keeps its records and computes: cpu, or cuda:N. A CUDA device has "
                "one lane at most.",
                Presence::kRequired),
      ScalarKey(
          "cache", &C::cache_bytes, SizeCodec(1, kMaxBytes),
          "Memory for latent records. It must be there at start; a page takes it when first used.",
          Presence::kRequired),
      ScalarKey("threads", &C::threads, CountCodec(0, 1024),
                "Helper threads that compute for a cpu lane, besides the lane's own. A cuda lane "
                "has none."),
      ScalarListKey("cpus", &C::cpus, CountCodec(0, kMaxCpus - 1), kMaxCpus,
                    "CPUs that the lane's threads are bound to. Without it they run anywhere, "
                    "those of a CUDA device on its NUMA node."),
  };
}

Schema<LaneIdleConfig> LaneIdleSchema() {
  using C = LaneIdleConfig;
  return {
      ScalarKey("idle", &C::idle,
                ChoiceCodec<LaneIdle>({{"poll", LaneIdle::kPoll},
                                       {"sleep", LaneIdle::kSleep},
                                       {"adaptive", LaneIdle::kAdaptive}}),
                "What a lane without work does. poll: spins, for the lowest latency, at the price "
                "of one CPU a lane. sleep: waits for the next message at once. adaptive: spins for "
                "spin_us, then sleeps."),
      ScalarKey("spin_us", &C::spin_us,
                DurationCodec(DurationUnit::kMicrosecond, BareNumber::kInUnit, 0, 1'000'000),
                "How long an adaptive lane spins after its last work, in microseconds."),
  };
}

Schema<LimitsConfig> LimitsSchema() {
  using C = LimitsConfig;
  constexpr uint64_t kMaxCount = uint64_t{1} << 24;
  auto open_bytes =
      ScalarKey("open_bytes_per_session", &C::open_bytes_per_session, SizeCodec(1, kMaxBytes),
                "Memory that the chunks one session has not sealed may take in one lane's cache: "
                "those are never evicted. Without it half of the lane's cache.");
  open_bytes.is_set = [](const C& limits) { return limits.open_bytes_per_session != 0; };
  return {
      ScalarKey("inflight_per_session", &C::inflight_per_session, CountCodec(1, kMaxCount),
                "Requests that one session may have in flight on one lane."),
      ScalarKey("inflight_bytes_per_session", &C::inflight_bytes_per_session,
                SizeCodec(1 * kMiB, kMaxBytes), "Bytes of those requests and their replies."),
      ScalarKey("inflight_per_lane", &C::inflight_per_lane, CountCodec(1, kMaxCount),
                "Requests of all sessions in flight on one lane."),
      ScalarKey("inflight_bytes_per_lane", &C::inflight_bytes_per_lane,
                SizeCodec(1 * kMiB, kMaxBytes), "Bytes of those requests and their replies."),
      ScalarKey("chunks_per_request", &C::chunks_per_request, CountCodec(1, kMaxCount),
                "Chunks that one request may name."),
      ScalarKey("rows_per_request", &C::rows_per_request, CountCodec(1, kMaxCount),
                "Rows, that is query tokens times heads, of one request."),
      ScalarKey(
          "work_per_request", &C::work_per_request, CountCodec(1, uint64_t{1} << 48),
          "Rows of one request, each times the tokens that it sees, on a cpu lane; 64 times as "
          "much on a cuda lane. Others wait for it: a core does 50 million a second."),
      open_bytes,
      ScalarKey("sessions", &C::sessions, CountCodec(1, kMaxCount), "Open sessions."),
      ScalarKey("chunks", &C::chunks, CountCodec(1, uint64_t{1} << 28),
                "Chunks in one lane's store."),
  };
}

Schema<LivenessConfig> LivenessSchema() {
  using C = LivenessConfig;
  return {
      ScalarKey("ping_ms", &C::ping_ms,
                DurationCodec(DurationUnit::kMillisecond, BareNumber::kInUnit, 1, kHourMs),
                "How often a silent peer of the data plane is asked for a sign of life, in "
                "milliseconds."),
      ScalarKey("dead_ms", &C::dead_ms,
                DurationCodec(DurationUnit::kMillisecond, BareNumber::kInUnit, 2, kHourMs),
                "Silence after which a peer is given up, in milliseconds; at least twice "
                "ping_ms."),
  };
}

// "auto", one name or a list of names.
Key<DataConfig> TransportsKey() {
  Key<DataConfig> key;
  const Key<DataConfig> list =
      ScalarListKey("transports", &DataConfig::transports, TransportCodec(), 32,
                    "UCX transports of the data plane: auto for all that UCX finds but shared "
                    "memory, or a name or a list of names such as [tcp, shm, rc]. Requesters must "
                    "offer one of them.");
  key = list;
  key.read = [list](const YAML::Node& value, const std::string& path, DataConfig& target,
                    Findings& findings) {
    if (!value.IsScalar()) {
      list.read(value, path, target, findings);
    } else if (value.Scalar() != "auto") {
      if (const auto name = ReadScalar(value, path, TransportCodec(), findings)) {
        target.transports = {*name};
      }
    }
  };
  key.write = [list](const DataConfig& source, YAML::Emitter& out) {
    if (source.transports.empty()) {
      out << "auto";
    } else {
      list.write(source, out);
    }
  };
  key.is_set = [](const DataConfig&) { return true; };
  return key;
}

Schema<DataConfig> DataSchema() {
  using C = DataConfig;
  return {
      TransportsKey(),
      MapListKey("lanes", &C::lanes, LaneSchema(), 1, kMaxLanes,
                 "One entry for each device that holds records and computes.", Presence::kRequired),
      MapKey("lane", &C::lane, LaneIdleSchema(), "How lanes wait."),
      MapKey("limits", &C::limits, LimitsSchema(),
             "Bounds of what is accepted. Beyond them a request is refused at once with "
             "RESOURCE_EXHAUSTED; nothing queues without limit."),
      MapKey("liveness", &C::liveness, LivenessSchema(), "How a peer that died is noticed."),
  };
}

constexpr char kPresetKey[] = "preset";

Codec<ModelConfig> PresetCodec() {
  Codec<ModelConfig> codec;
  codec.format = [](const ModelConfig& model) { return model.name; };
  codec.parse = [](const std::string& text) -> absl::StatusOr<ModelConfig> {
    if (std::optional<ModelConfig> preset = FindPreset(text)) return *std::move(preset);
    const std::vector<std::string> names = PresetNames();
    return absl::InvalidArgumentError(absl::StrCat("no preset '", text, "'",
                                                   DidYouMean(text, names), "; there are ",
                                                   absl::StrJoin(names, ", ")));
  };
  return codec;
}

// What may stand in the configuration's map of a model: besides the model's keys, the preset that
// it starts from.
Schema<ModelConfig> InlineModelSchema() {
  Key<ModelConfig> preset;
  preset.name = kPresetKey;
  preset.doc = absl::StrCat("Preset that the map starts from: ", absl::StrJoin(PresetNames(), ", "),
                            ". Without it, name, layers and heads are required.");
  preset.read = [](const YAML::Node&, const std::string&, ModelConfig&, Findings&) {};
  preset.is_set = [](const ModelConfig&) { return false; };
  Schema<ModelConfig> schema = {preset};
  schema.insert(schema.end(), ModelSchema().begin(), ModelSchema().end());
  return schema;
}

void ReadInlineModel(const YAML::Node& value, const std::string& path, ModelConfig& model,
                     Findings& findings) {
  Schema<ModelConfig> schema = InlineModelSchema();
  // The preset first: other keys, wherever they stand, replace its values.
  for (const auto& entry : value) {
    if (!entry.first.IsScalar() || entry.first.Scalar() != kPresetKey) continue;
    auto preset = ReadScalar(entry.second, JoinPath(path, kPresetKey), PresetCodec(), findings);
    if (preset) model = *std::move(preset);
    // Even if there is no such preset: that is one fault, and the keys that it would have given are
    // not others.
    for (Key<ModelConfig>& key : schema) key.presence = Presence::kOptional;
    break;
  }
  ReadModel(value, path, schema, model, findings);
}

Key<Config> ModelKey() {
  Key<Config> key;
  key.name = "model";
  key.doc =
      "The model whose records are held: a preset's name, or a map of its geometry. In a map that "
      "names a preset, the other keys replace the preset's values.";
  key.presence = Presence::kRequired;
  key.nested = Document(InlineModelSchema(), ".");
  key.read = [](const YAML::Node& value, const std::string& path, Config& target,
                Findings& findings) {
    if (value.IsMap()) {
      ReadInlineModel(value, path, target.model, findings);
    } else if (auto preset = ReadScalar(value, path, PresetCodec(), findings)) {
      target.model = *std::move(preset);
    }
  };
  key.write = [](const Config& source, YAML::Emitter& out) {
    WriteMap(source.model, ModelSchema(), out);
  };
  return key;
}

Schema<PeerConfig> PeerSchema() {
  using C = PeerConfig;
  Schema<C> schema = {
      ScalarKey("id", &C::id, NameCodec(), "The node's node.id.", Presence::kRequired),
      ScalarKey("control", &C::control_address, HostPortCodec(PortZero::kRefused),
                "Address of its gRPC server.", Presence::kRequired),
      ScalarKey("capacity", &C::capacity_bytes, SizeCodec(1, kMaxBytes),
                "Its share of the chunks is in proportion to it; usually its lanes' caches in sum. "
                "Given for all nodes or for none, and then all have the same share."),
  };
  schema.back().is_set = [](const C& peer) { return peer.capacity_bytes != 0; };
  return schema;
}

// A text that is not written where it is empty.
template <typename C>
Key<C> OptionalTextKey(std::string name, std::string C::*member, std::string doc) {
  Key<C> key = ScalarKey(std::move(name), member, TextCodec(), std::move(doc));
  key.is_set = [member](const C& source) { return !(source.*member).empty(); };
  return key;
}

Schema<EtcdTlsConfig> EtcdTlsSchema() {
  using C = EtcdTlsConfig;
  return {
      ScalarKey("ca", &C::ca_path, TextCodec(),
                "PEM file of the authorities whose certificates etcd's servers may show.",
                Presence::kRequired),
      OptionalTextKey("cert", &C::cert_path,
                      "PEM file of the certificate that this node shows etcd, if it asks for one."),
      OptionalTextKey("key", &C::key_path, "PEM file of that certificate's private key."),
  };
}

Schema<MembershipConfig> MembershipSchema() {
  using C = MembershipConfig;
  return {
      ScalarKey("backend", &C::backend,
                ChoiceCodec<MembershipBackend>(
                    {{"static", MembershipBackend::kStatic}, {"etcd", MembershipBackend::kEtcd}}),
                "Who says which nodes there are. static: this file. etcd: they say so themselves, "
                "there."),
      MapListKey("peers", &C::peers, PeerSchema(), 0, kMaxNodes,
                 "For static: all nodes, this one among them; the same list in every node's file. "
                 "Without it, this node is alone."),
      ScalarKey("epoch", &C::epoch, CountCodec(1, uint64_t{1} << 53),
                "For static: version of the list of peers, the same in every node's file. Raise it "
                "with every change of peers, capacities or replicas, so that clients tell the old "
                "routing table from the new one."),
      ScalarListKey("endpoints", &C::endpoints, HostPortCodec(PortZero::kRefused), 64,
                    "For etcd: addresses of its servers, without http:// before them."),
      ScalarKey("cluster", &C::cluster, NameCodec(),
                "For etcd: name that keeps this cluster's keys apart from those of others."),
      ScalarKey("lease", &C::lease_ms,
                DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 1000, kMinuteMs),
                "For etcd: how long a node that has gone silent keeps its slots; 1s to 60s."),
      OptionalTextKey("user", &C::user,
                      "For etcd with authentication: this node's user, with password_file."),
      OptionalTextKey("password_file", &C::password_path,
                      "For etcd with authentication: file whose first line is the user's "
                      "password."),
      OptionalMapKey("tls", &C::tls, EtcdTlsSchema(),
                     "For etcd: TLS towards its servers. Without it, in plaintext."),
  };
}

Schema<MigrationConfig> MigrationSchema() {
  using C = MigrationConfig;
  return {
      ScalarKey("rate", &C::rate_bytes_per_s, SizeCodec(0, kMaxBytes),
                "Bytes a second that this node copies at most; 0: as fast as it goes."),
      ScalarKey("parallel", &C::parallel, CountCodec(1, 64),
                "Ranges of records, of some MiB each, that are on their way at a time."),
  };
}

Schema<ScrubConfig> ScrubSchema() {
  using C = ScrubConfig;
  return {
      ScalarKey("rate", &C::rate_bytes_per_s, SizeCodec(0, kMaxBytes),
                "Bytes a second that each lane reads again while it has nothing else to do, and "
                "little of "
                "that while it has; 0: never."),
      ScalarKey("every", &C::every_ms,
                DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 0, kWeekMs),
                "How often every chunk is read again, if the rate is enough for that; 0s: as often "
                "as it is."),
  };
}

Schema<CalibrationConfig> CalibrationSchema() {
  using C = CalibrationConfig;
  return {
      ScalarKey("at_start", &C::at_start, FlagCodec(),
                "Begin some seconds after the daemon serves; false: when the period is over."),
      ScalarKey("period", &C::period_ms,
                DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 0, kWeekMs),
                "How often everything is timed again; 0s: never, unless latentctl calibrate says "
                "so."),
      ScalarKey("share", &C::share, NumberCodec(0.001, 1),
                "Share of a lane's time, while it has nothing else to do, in which its device is "
                "timed. latentctl calibrate takes all of such time."),
      ScalarKey("longest_batch", &C::longest_batch_us,
                DurationCodec(DurationUnit::kMicrosecond, BareNumber::kRefused, 100, 10'000'000),
                "No batch that times a device takes longer, for a request that comes meanwhile may "
                "have to wait for it; what more rows and tokens take is extrapolated."),
      ScalarKey("link_rate", &C::link_rate_bytes_per_s, SizeCodec(0, kMaxBytes),
                "Bytes a second, on average, with which the links to other nodes are timed; 0: "
                "they are not."),
  };
}

Schema<StoreConfig> StoreSchema() {
  using C = StoreConfig;
  return {
      ScalarKey("high_watermark", &C::high_watermark, NumberCodec(0.01, 1),
                "Share of a lane's pages in use at which eviction starts."),
      ScalarKey("low_watermark", &C::low_watermark, NumberCodec(0, 1),
                "Share at which it stops again; below high_watermark."),
      ScalarKey("lease_default", &C::lease_default_ms,
                DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 1, kWeekMs),
                "How long a chunk is kept from eviction if the request that leases it does not "
                "say."),
  };
}

Schema<SessionConfig> SessionSchema() {
  return {ScalarKey("ttl", &SessionConfig::ttl_ms,
                    DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 100, kWeekMs),
                    "How long a session lives after its client was last heard of.")};
}

Schema<DrainConfig> DrainSchema() {
  return {ScalarKey("timeout", &DrainConfig::timeout_ms,
                    DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 0, kWeekMs),
                    "How long a daemon that is told to stop goes on with the requests that it has "
                    "accepted.")};
}

Schema<MetricsConfig> MetricsSchema() {
  return {ScalarKey("listen", &MetricsConfig::listen, HostPortOrOffCodec(),
                    "Address where metrics are served over HTTP, or off. Port 0 takes "
                    "any free port.")};
}

Schema<LogConfig> LogSchema() {
  using C = LogConfig;
  return {
      ScalarKey("level", &C::level,
                ChoiceCodec<LogLevel>({{"trace", LogLevel::kTrace},
                                       {"debug", LogLevel::kDebug},
                                       {"info", LogLevel::kInfo},
                                       {"warn", LogLevel::kWarn},
                                       {"error", LogLevel::kError}}),
                "Least severity that is written: trace, debug, info, warn or error."),
      ScalarKey("format", &C::format,
                ChoiceCodec<LogFormat>({{"text", LogFormat::kText}, {"json", LogFormat::kJson}}),
                "text for people, json for machines; one line an event in both."),
  };
}

}  // namespace

const Schema<Config>& ConfigSchema() {
  using C = Config;
  static const auto& schema = *new Schema<Config>{
      MapKey("node", &C::node, NodeSchema(), "Who this node is.", Presence::kRequired),
      MapKey("control", &C::control, ControlSchema(), "The control plane, over gRPC."),
      MapKey("data", &C::data, DataSchema(), "The data plane, over UCX.", Presence::kRequired),
      ModelKey(),
      ScalarKey(
          "record", &C::record,
          ChoiceCodec<RecordFormat>({{"bf16", RecordFormat::kBf16}, {"fp8", RecordFormat::kFp8}}),
          "Format of latent records. bf16: as the model makes them. fp8: latent values of 8 "
          "bits with a scale for each 128, in 57% of the memory."),
      MapKey("membership", &C::membership, MembershipSchema(), "Which nodes make up the cluster."),
      ScalarKey("replicas", &C::replicas, CountCodec(1, kMaxReplicas),
                "Nodes that hold each chunk; with a static list no more than there are nodes."),
      ScalarKey("acks", &C::acks,
                ChoiceCodec<Acks>({{"all", Acks::kAll}, {"primary", Acks::kPrimary}}),
                "When what is published is acknowledged. all: every replica has it. primary: the "
                "first of them has it; it is lost if that node dies, or gives the slot up, before "
                "the others have it. With etcd, a replica that does not take it within 5 s copies "
                "the slot anew; with a static list it lacks it until it is published again."),
      MapKey("migration", &C::migration, MigrationSchema(),
             "Copying chunks of slots that come to this node."),
      MapKey("scrub", &C::scrub, ScrubSchema(),
             "Reading chunks again to see whether they are what they were sealed as. One that is "
             "not is answered for no more, and fetched anew from another node that holds it."),
      MapKey("calibration", &C::calibration, CalibrationSchema(),
             "Timing this node's devices and its links to others, so that clients know what a "
             "query costs: latentctl costs."),
      MapKey("store", &C::store, StoreSchema(), "The latent store of each lane."),
      MapKey("session", &C::session, SessionSchema(), "Clients' sessions."),
      MapKey("drain", &C::drain, DrainSchema(), "Stopping in good order."),
      MapKey("metrics", &C::metrics, MetricsSchema(), "What is measured, for Prometheus."),
      MapKey("log", &C::log, LogSchema(), "The log, on standard error."),
  };
  return schema;
}

std::vector<KeyDoc> ConfigDocs() { return Document(ConfigSchema(), ""); }

}  // namespace latentd
