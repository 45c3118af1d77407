#include "routing/costs_proto.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace latentd {
namespace {

constexpr size_t kMostNameBytes = 128;  // of what a stranger's message has as a name

std::string NameOf(const std::string& id) {
  return id.empty() ? "a node without id" : id.substr(0, kMostNameBytes);
}

std::optional<RecordFormat> FormatOf(absl::string_view name) {
  for (const RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    const std::string_view known = RecordFormatName(format);
    if (name == absl::string_view(known.data(), known.size())) return format;
  }
  return std::nullopt;
}

std::optional<ComputeRegime> RegimeOf(v1::ComputeRegime regime) {
  switch (regime) {
    case v1::COMPUTE_REGIME_LATENCY:
      return ComputeRegime::kLatency;
    case v1::COMPUTE_REGIME_THROUGHPUT:
      return ComputeRegime::kThroughput;
    default:
      return std::nullopt;
  }
}

absl::Time TimeOf(int64_t unix_ms) {
  return unix_ms <= 0 ? absl::InfinitePast() : absl::FromUnixMillis(unix_ms);
}

int64_t ToUnixMs(absl::Time time) {
  return time == absl::InfinitePast() ? 0 : absl::ToUnixMillis(time);
}

class Reader {
 public:
  Reader(const v1::NodeCosts& message, absl::Time now, Generation generation)
      : message_(message),
        owner_(NameOf(message.node_id())),
        now_(now),
        other_life_(ToInt(generation) != 0 && ToInt(generation) != message.generation()) {
    const uint64_t most = static_cast<uint64_t>(absl::ToInt64Milliseconds(kMostPeriod));
    const auto period_ms = static_cast<int64_t>(std::min(message.period_ms(), most));
    valid_ = kPeriodsToStale * std::max(absl::Milliseconds(period_ms), kLeastPeriod);
  }

  NodeCostsReading Read() {
    NodeCosts& costs = reading_.costs;
    costs.node = message_.node_id();
    costs.generation = Generation{message_.generation()};
    costs.measured = TimeOf(message_.measured_unix_ms());
    CheckCount("compute tables", message_.compute_size(), kMaxComputeCosts);
    CheckCount("links", message_.links_size(), kMaxLinkCosts);
    for (int i = 0; i < std::min(message_.compute_size(), kMaxComputeCosts); ++i) {
      ReadCompute(message_.compute(i));
    }
    for (int i = 0; i < std::min(message_.links_size(), kMaxLinkCosts); ++i) {
      ReadLink(message_.links(i));
    }
    return std::move(reading_);
  }

 private:
  void CheckCount(absl::string_view what, int count, int most) {
    if (count <= most) return;
    Name(absl::StrCat(owner_, ": ", count, " ", what, ", read are ", most));
  }

  void Name(std::string trouble) { reading_.quarantined.push_back(std::move(trouble)); }
  void Name(const absl::Status& status) {
    if (!status.ok()) Name(std::string(status.message()));
  }

  // A time that has yet to come by more than clocks differ says nothing of the age.
  bool Old(int64_t measured_unix_ms) const {
    const absl::Duration age = now_ - TimeOf(measured_unix_ms);
    return other_life_ || age > valid_ || age < -valid_;
  }

  void ReadCompute(const v1::ComputeCosts& message) {
    const std::optional<RecordFormat> format = FormatOf(message.record());
    const std::optional<ComputeRegime> regime = RegimeOf(message.regime());
    if (!format.has_value() || !regime.has_value()) return;
    NodeConstants one;
    Name(SetTable(absl::StrCat(owner_, " lane ", message.lane()), *format, *regime,
                  {message.rows().data(), static_cast<size_t>(message.rows_size())},
                  {message.tokens().data(), static_cast<size_t>(message.tokens_size())},
                  {message.us().data(), static_cast<size_t>(message.us_size())}, one));
    if (Old(message.measured_unix_ms())) MarkStale(one);
    absl::Time& oldest = reading_.costs.compute_measured;
    const absl::Time measured = TimeOf(message.measured_unix_ms());
    oldest = oldest == absl::InfinitePast() ? measured : std::min(oldest, measured);
    TimedTable& all = reading_.costs.compute.Compute(*format, *regime);
    all = Dearer(all, one.Compute(*format, *regime));
  }

  // Of two lanes. What is known of both is compared where both were measured.
  static const TimedTable& Dearer(const TimedTable& a, const TimedTable& b) {
    if (a.state == ConstantState::kMissing) return b;
    if (a.state != b.state) return a.state > b.state ? a : b;  // the less is known the dearer
    const uint32_t rows = std::min(a.table.rows().back(), b.table.rows().back());
    const uint32_t tokens = std::min(a.table.tokens().back(), b.table.tokens().back());
    return a.table.UsAt(rows, tokens) >= b.table.UsAt(rows, tokens) ? a : b;
  }

  void ReadLink(const v1::LinkCosts& message) {
    PeerLink link{.peer = message.peer(),
                  .peer_generation = Generation{message.peer_generation()},
                  .measured = TimeOf(message.measured_unix_ms()),
                  .constants = {}};
    PairConstants& pair = link.constants;
    if (message.has_probe_us()) pair.probe_us = {message.probe_us(), ConstantState::kMeasured};
    if (message.has_out_bytes_per_us()) {
      pair.out_bytes_per_us = {message.out_bytes_per_us(), ConstantState::kMeasured};
    }
    if (message.has_in_bytes_per_us()) {
      pair.in_bytes_per_us = {message.in_bytes_per_us(), ConstantState::kMeasured};
    }
    if (message.has_handshake_us()) {
      pair.handshake_us = {message.handshake_us(), ConstantState::kMeasured};
    }
    if (message.has_range_us()) pair.range_us = {message.range_us(), ConstantState::kMeasured};
    pair.staged_fetch = !message.direct_fetch();
    Name(Vet(absl::StrCat(owner_, " to ", NameOf(message.peer())), pair));
    if (Old(message.measured_unix_ms())) MarkStale(pair);
    reading_.costs.links.push_back(std::move(link));
  }

  const v1::NodeCosts& message_;
  const std::string owner_;
  const absl::Time now_;
  const bool other_life_;
  absl::Duration valid_;
  NodeCostsReading reading_;
};

template <ConstantKind Kind>
std::optional<double> Known(const Constant<Kind>& constant) {
  const bool known =
      constant.state == ConstantState::kMeasured || constant.state == ConstantState::kStale;
  return known ? std::optional(constant.value) : std::nullopt;
}

}  // namespace

const PeerLink* NodeCosts::LinkTo(const NodeId& peer) const {
  const auto found =
      std::find_if(links.begin(), links.end(), [&](const PeerLink& l) { return l.peer == peer; });
  return found == links.end() ? nullptr : &*found;
}

NodeCostsReading FromProto(const v1::NodeCosts& message, absl::Time now, Generation generation) {
  return Reader(message, now, generation).Read();
}

v1::ComputeCosts ToProto(const ComputeTable& table, RecordFormat format, ComputeRegime regime,
                         uint32_t lane, absl::Time measured) {
  v1::ComputeCosts message;
  message.set_record(std::string(RecordFormatName(format)));
  message.set_regime(regime == ComputeRegime::kLatency ? v1::COMPUTE_REGIME_LATENCY
                                                       : v1::COMPUTE_REGIME_THROUGHPUT);
  message.set_lane(lane);
  message.set_measured_unix_ms(ToUnixMs(measured));
  message.mutable_rows()->Add(table.rows().begin(), table.rows().end());
  message.mutable_tokens()->Add(table.tokens().begin(), table.tokens().end());
  for (size_t r = 0; r < table.rows().size(); ++r) {
    for (size_t t = 0; t < table.tokens().size(); ++t) message.add_us(table.us(r, t));
  }
  return message;
}

v1::LinkCosts ToProto(const PeerLink& link) {
  v1::LinkCosts message;
  message.set_peer(link.peer);
  message.set_peer_generation(ToInt(link.peer_generation));
  message.set_measured_unix_ms(ToUnixMs(link.measured));
  const PairConstants& pair = link.constants;
  if (const auto value = Known(pair.probe_us)) message.set_probe_us(*value);
  if (const auto value = Known(pair.out_bytes_per_us)) message.set_out_bytes_per_us(*value);
  if (const auto value = Known(pair.in_bytes_per_us)) message.set_in_bytes_per_us(*value);
  if (const auto value = Known(pair.handshake_us)) message.set_handshake_us(*value);
  if (const auto value = Known(pair.range_us)) message.set_range_us(*value);
  message.set_direct_fetch(!pair.staged_fetch);
  return message;
}

}  // namespace latentd
