#include "tests/sim/sim_world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/membership/cluster_keys.h"
#include "proto/latentd/v1/membership.pb.h"
#include "tests/sim/sim_client.h"

namespace latentd::sim {
namespace {

constexpr int kNodes = 5;
constexpr int kClients = 3;
constexpr int kClientAddress = 100;
constexpr absl::Duration kStep = absl::Milliseconds(500);
constexpr absl::Duration kSettle = absl::Seconds(30);

const ClusterKeys& Keys() {
  static const ClusterKeys& keys = *new ClusterKeys("sim");
  return keys;
}

// Each block's primary, other holders and (joining) nodes, and since which epoch.
std::string Describe(const RoutingTable& table) {
  std::string text = absl::StrCat("table ", ToInt(table.epoch()), ":");
  for (uint32_t block = 0; block < kBlocks; ++block) {
    const Slot slot{static_cast<uint16_t>(block * kBlockSlots)};
    absl::StrAppend(&text, " ");
    for (const NodeIndex n : table.HoldersOf(slot))
      absl::StrAppend(&text, IndexOf(table.node(n).id));
    for (const NodeIndex n : table.JoiningOf(slot)) {
      absl::StrAppend(&text, "(", IndexOf(table.node(n).id), ")");
    }
    absl::StrAppend(&text, "@", ToInt(table.PlacedOf(slot)));
  }
  return text;
}

}  // namespace

int IndexOf(const NodeId& node) { return std::stoi(node.substr(node.find('-') + 1)); }

SimWorld::SimWorld(SimOptions options)
    : options_(options),
      random_(options.seed),
      ttl_(random_.Between(absl::Seconds(1), absl::Seconds(3))),
      replicas_(random_.Chance(0.8) ? 2 : 1 + static_cast<uint32_t>(random_.Below(3))),
      etcd_(std::make_unique<SimEtcd>(&loop_, random_.Bits(), 0.96 + 0.08 * random_.Real())),
      network_(&loop_, random_.Bits()),
      nodes_(kNodes),
      wipes_(random_.Chance(0.15)),
      acks_all_(random_.Chance(0.7)) {
  etcd_->OnChange([this] { EtcdChanged(); });
  for (int i = 0; i < kNodes; ++i) {
    nodes_[i].clock_rate = 0.96 + 0.08 * random_.Real();
    if (i < kNodes - 1 || random_.Chance(0.3)) StartNode(i);
  }
  for (int i = 0; i < kClients; ++i) {
    clients_.push_back(std::make_unique<SimClient>(this, kClientAddress + i, random_.Bits()));
  }
}

SimWorld::~SimWorld() {
  clients_.clear();
  for (Place& place : nodes_) place.life.reset();
}

// ---- life and faults ----

void SimWorld::StartNode(int index) {
  Place& place = nodes_[index];
  if (place.life != nullptr) return;
  place.leaving = false;
  Log(absl::StrCat("start ", index, " as ", next_generation_));
  place.life = std::make_unique<SimNode>(
      this, &place.link,
      SimNodeOptions{.index = index,
                     .generation = Generation{next_generation_++},
                     .ttl = ttl_,
                     .replicas = replicas_,
                     .seed = random_.Bits(),
                     .clock_rate = place.clock_rate,
                     .state = place.draining ? NodeState::kDraining : NodeState::kActive,
                     .acks_all = acks_all_});
}

void SimWorld::Crash(int index) {
  Log(absl::StrCat("crash ", index));
  nodes_[index].life.reset();
}

void SimWorld::ScheduleFaults(absl::Time end) {
  const absl::Time next = loop_.now() + random_.Between(absl::Milliseconds(100), absl::Seconds(3));
  if (next > end) return;
  loop_.At(next, [this, end] {
    if (healed_) return;
    ++counts_.faults;
    RandomFault();
    ScheduleFaults(end);
  });
}

void SimWorld::RandomFault() {
  const int index = static_cast<int>(random_.Below(kNodes));
  const int other = static_cast<int>(random_.Below(kNodes));
  Place& place = nodes_[index];
  const absl::Duration time = random_.Between(absl::Milliseconds(100), 3 * ttl_);
  const auto later = [this, time](std::function<void()> closure) {
    loop_.After(time, [this, closure = std::move(closure)] {
      if (!healed_) closure();
    });
  };
  switch (random_.Below(13)) {
    case 0:
    case 1:
      Crash(index);
      return later([this, index] { StartNode(index); });
    case 2:
    case 3:
      if (place.life == nullptr) return;
      Log(absl::StrCat("pause ", index, " for ", absl::FormatDuration(time)));
      place.life->clock().Pause();
      return later([&place] {
        if (place.life != nullptr && place.life->clock().paused()) place.life->clock().Resume();
      });
    case 4:
      Log(absl::StrCat("cut ", index, " off etcd for ", absl::FormatDuration(time)));
      place.link.cut = true;
      return later([&place] { place.link.cut = false; });
    case 5:
      Log(absl::StrCat("cut ", index, " -> ", other));
      network_.Cut(index, other);
      if (random_.Chance(0.5)) network_.Cut(other, index);
      return later([this] { network_.HealAll(); });
    case 6:
      Log(absl::StrCat("isolate ", index, " for ", absl::FormatDuration(time)));
      place.link.cut = true;
      for (int i = 0; i < kNodes; ++i) network_.Cut(index, i), network_.Cut(i, index);
      return later([this, &place] {
        place.link.cut = false;
        network_.HealAll();
      });
    case 7:
      Log(absl::StrCat("etcd down for ", absl::FormatDuration(time)));
      etcd_->SetDown(true);
      return later([this] { etcd_->SetDown(false); });
    case 8:
      etcd_->Compact();
      return;
    case 9: {
      const EtcdEntry* entry = nullptr;
      const auto found = etcd_->entries().find(Keys().Node(NameOf(index)));
      if (found != etcd_->entries().end()) entry = &found->second;
      if (entry == nullptr || etcd_->down()) return;
      // Of one that is dead: whoever ends the lease of one that lives has ended its promises too.
      if (place.life != nullptr) return;
      Log(absl::StrCat("node ", index, "'s lease is revoked"));
      (void)etcd_->Revoke(entry->lease);
      return;
    }
    case 10:
      if (place.life == nullptr || place.leaving) return;
      place.draining = !place.draining;
      Log(absl::StrCat(place.draining ? "drain " : "resume ", index));
      place.life->clock().Run([&place] { place.life->member().SetDraining(place.draining); });
      return;
    case 11:
      if (place.life == nullptr || place.leaving || place.life->clock().paused()) return;
      Log(absl::StrCat("leave ", index));
      place.leaving = true;
      place.life->member().Leave([this, index] {
        loop_.After(absl::ZeroDuration(), [this, index] {
          if (nodes_[index].leaving) nodes_[index].life.reset();
        });
      });
      return later([this, index] { StartNode(index); });
    default:
      if (wipes_ && random_.Chance(0.5)) {
        Log("etcd loses everything");
        wipes_ = false;
        wiped_at_ = loop_.now();
        newest_ = {};
        for (const auto& [chunk, generation] : sealed_) lost_.insert(chunk);
        etcd_->Wipe();
        return;
      }
      network_.loss = 0.1 * random_.Real();
      network_.duplicates = 0.1 * random_.Real();
      place.link.loss = 0.1 * random_.Real();
      return;
  }
}

void SimWorld::Heal() {
  Log("heal");
  healed_ = true;
  network_.HealAll();
  etcd_->SetDown(false);
  for (int i = 0; i < kNodes; ++i) {
    Place& place = nodes_[i];
    place.link = {};
    place.draining = false;
    if (place.leaving) place.life.reset();
    if (place.life == nullptr) {
      StartNode(i);
      continue;
    }
    if (place.life->clock().paused()) place.life->clock().Resume();
    place.life->clock().Run([&place] { place.life->member().SetDraining(false); });
  }
}

std::vector<std::string> SimWorld::Run() {
  const absl::Time heal_at = loop_.now() + options_.faults_for;
  const auto run_until = [this](absl::Time end) {
    while (loop_.now() < end && breaches_.empty())
      loop_.RunUntil(std::min(end, loop_.now() + kStep));
  };
  ScheduleFaults(heal_at);
  run_until(heal_at);
  Heal();
  run_until(loop_.now() + kSettle);
  for (const auto& client : clients_) client->Stop();
  run_until(loop_.now() + absl::Seconds(5));
  if (breaches_.empty()) CheckConverged();
  if (breaches_.empty()) {
    bool all = false;
    clients_.front()->AttendEverything([&all](bool answered) { all = answered; });
    run_until(loop_.now() + absl::Seconds(5));
    if (!all && acks_all_) Breach("a sealed chunk is not answered after everything has healed");
  }
  counts_.lost = lost_.size();
  counts_.events = loop_.ran();
  return breaches_;
}

// ---- messages ----

void SimWorld::Call(int from, int to, const Request& request, ReplyDone done) {
  network_.Send(from, to, [this, from, to, request, done = std::move(done)] {
    SimNode* node = nodes_[to].life.get();
    const auto answer = [this, from, to, done](const Reply& reply) {
      network_.Send(to, from, [done, reply] { done(reply); });
    };
    if (node == nullptr) {
      // Nobody listens there.
      return answer({.status = absl::UnavailableError("connection refused")});
    }
    node->clock().Run([node, request, answer] { node->Handle(request, answer); });
  });
}

ReplyDone SimWorld::Guarded(SimNode& node, ReplyDone done) {
  return [this, index = node.options().index, generation = node.generation(),
          done = std::move(done)](const Reply& reply) {
    SimNode* life = nodes_[index].life.get();
    if (life == nullptr || life->generation() != generation) return;
    life->clock().Run([done, reply] { done(reply); });
  };
}

void SimWorld::CallWithTimeout(SimNode& node, int to, const Request& request,
                               absl::Duration timeout, ReplyDone done) {
  auto ended = std::make_shared<bool>(false);
  Call(node.options().index, to, request, Guarded(node, [ended, done](const Reply& reply) {
         if (!std::exchange(*ended, true)) done(reply);
       }));
  node.clock().After(timeout, [ended, done] {
    if (!std::exchange(*ended, true)) done({.status = absl::UnavailableError("no answer")});
  });
}

// ---- invariants ----

void SimWorld::Log(const std::string& what) {
  if (!options_.verbose) return;
  std::fprintf(stderr, "%10.3f %s\n", absl::ToDoubleSeconds(loop_.now() - absl::UnixEpoch()) - 3600,
               what.c_str());
}

void SimWorld::Breach(const std::string& what) {
  Log(absl::StrCat("BREACH: ", what));
  for (const Place& place : nodes_) {
    if (place.life == nullptr || place.life->table() == nullptr) continue;
    Log(absl::StrCat("  node ", place.life->options().index, " generation ",
                     ToInt(place.life->generation()), " epoch ",
                     ToInt(place.life->table()->epoch()), place.life->serves() ? " serves" : ""));
  }
  breaches_.push_back(absl::StrFormat(
      "at %.3f s: %s", absl::ToDoubleSeconds(loop_.now() - absl::UnixEpoch()) - 3600, what));
}

void SimWorld::Ended(bool in_time, bool ok) {
  if (!in_time) Breach("a request ended after its deadline");
  ++(ok ? counts_.answers : counts_.failed);
}

bool SimWorld::WipeExcuses() const { return loop_.now() - wiped_at_ < ttl_; }

void SimWorld::CheckDelivered(const SimNode& node, const TablePtr& before,
                              const RoutingTable& table) {
  if (before != nullptr && table.epoch() <= before->epoch()) {
    Breach(absl::StrCat("node ", node.options().index, " is given epoch ", ToInt(table.epoch()),
                        " after ", ToInt(before->epoch())));
  }
}

void SimWorld::CheckAnswers(SimNode& node, const Request& request) {
  if (WipeExcuses()) return;
  const std::string who =
      absl::StrCat("node ", node.options().index, " (generation ", ToInt(node.generation()), ")");
  const auto entry = etcd_->entries().find(Keys().Node(NameOf(node.options().index)));
  v1::NodeRegistration registration;
  if (entry == etcd_->entries().end() || !registration.ParseFromString(entry->second.value) ||
      registration.node().generation() != ToInt(node.generation())) {
    return Breach(absl::StrCat(who, " answers although its lease is over"));
  }
  const Slot slot = request.chunk.slot();
  if (newest_.table != nullptr && newest_.table->GenerationOf(slot) != request.generation) {
    Breach(absl::StrCat(who, " answers for slot ", ToInt(slot), " of a stale generation"));
  }
}

void SimWorld::CheckPrimary(const SimNode& node, Slot slot) {
  // An etcd that has lost everything may give an epoch anew that somebody has not heard the end of.
  if (wiped_at_ != absl::InfinitePast()) return;
  const auto [first, fresh] =
      primary_of_.try_emplace({node.table()->epoch(), slot}, node.generation());
  if (!fresh && first->second != node.generation()) {
    Breach(absl::StrCat("slot ", ToInt(slot), " has two primaries in epoch ",
                        ToInt(node.table()->epoch())));
  }
}

void SimWorld::Sealed(const ChunkId& chunk, Generation generation) {
  sealed_.emplace(chunk, generation);
  ++counts_.sealed;
  CheckCredit(chunk);
}

void SimWorld::Acknowledges(const SimNode& node, const ChunkId& chunk) {
  if (newest_.table == nullptr) return;
  const NodeId name = NameOf(node.options().index);
  const auto index = newest_.table->FindNode(name);
  // One that is replaced and has not heard of it yet promises nothing by itself.
  if (!index || newest_.table->node(*index).generation != node.generation() ||
      !newest_.table->Holds(*index, chunk.slot())) {
    return;
  }
  acknowledged_by_[chunk] = {name, node.generation()};
}

bool SimWorld::MayBeLost(const ChunkId& chunk) const { return lost_.contains(chunk); }

void SimWorld::EtcdChanged() {
  const absl::StatusOr<StoredTable> stored = ReadTable(etcd_->entries(), Keys(), newest_);
  if (!stored.ok()) {
    if (absl::IsNotFound(stored.status())) return;
    return Breach(std::string(stored.status().message()));
  }
  if (stored->table == newest_.table) return;
  const TablePtr before = std::exchange(newest_, *stored).table;
  ++counts_.tables;
  if (options_.verbose) Log(Describe(*newest_.table));
  CheckNewTable(before, newest_.table);
}

void SimWorld::CheckNewTable(const TablePtr& before, const TablePtr& table) {
  for (const auto& [chunk, generation] : sealed_) CheckCredit(chunk);
  std::erase_if(acknowledged_by_, [&](const auto& by) {
    const auto index = table->FindNode(by.second.first);
    return !index || table->node(*index).generation != by.second.second ||
           !table->Holds(*index, by.first.slot());
  });
  if (before == nullptr) return;
  for (uint32_t block = 0; block < kBlocks; ++block) {
    const Slot slot{static_cast<uint16_t>(block * kBlockSlots)};
    if (before->GenerationOf(slot) == table->GenerationOf(slot)) continue;
    // Begun anew: every holder must be gone, or have been.
    for (const NodeIndex holder : before->HoldersOf(slot)) {
      const NodeInfo& node = before->node(holder);
      const auto& life = nodes_[IndexOf(node.id)].life;
      if (life != nullptr && life->generation() == node.generation && life->serves()) {
        Breach(absl::StrCat("slot ", ToInt(slot), " begins anew although ", node.id,
                            ", which serves, holds it"));
      }
    }
  }
}

// No holder of the newest table lacks an acknowledged, sealed chunk.
void SimWorld::CheckCredit(const ChunkId& chunk) {
  if (newest_.table == nullptr || lost_.contains(chunk)) return;
  const Slot slot = chunk.slot();
  if (newest_.table->GenerationOf(slot) != sealed_.at(chunk)) {
    lost_.insert(chunk);
    return;
  }
  if (!acks_all_) return;  // for a moment, one may have it alone: CheckNobodyLacksAnything
  for (const NodeIndex holder : newest_.table->HoldersOf(slot)) {
    const NodeInfo& node = newest_.table->node(holder);
    const auto& life = nodes_[IndexOf(node.id)].life;
    if (life == nullptr || life->generation() != node.generation) continue;
    const auto found = life->chunks().find(chunk);
    if (found == life->chunks().end() || !found->second.sealed ||
        found->second.content != ContentOf(chunk)) {
      Breach(absl::StrCat(node.id, " holds slot ", ToInt(slot), " in epoch ",
                          ToInt(newest_.epoch()), " and lacks sealed chunk ", ToString(chunk)));
    }
  }
}

void SimWorld::CheckNobodyLacksAnything() {
  for (const auto& [chunk, by] : acknowledged_by_) {
    const SimNode& has = *nodes_[IndexOf(by.first)].life;
    const auto what = has.chunks().find(chunk);
    if (what == has.chunks().end() || !what->second.sealed) continue;
    for (const NodeIndex holder : newest_.table->HoldersOf(chunk.slot())) {
      const NodeId& id = newest_.table->node(holder).id;
      const SimNode& node = *nodes_[IndexOf(id)].life;
      const auto found = node.chunks().find(chunk);
      if (found == node.chunks().end() || !found->second.sealed) {
        Breach(absl::StrCat(id, " lacks sealed chunk ", ToString(chunk), ", which ", by.first,
                            " acknowledged and has held ever since"));
      }
    }
  }
}

void SimWorld::CheckConverged() {
  if (newest_.table == nullptr) return Breach("there is no table");
  const uint32_t copies = std::min<uint32_t>(replicas_, kNodes);
  const PlacementProgress progress = ProgressOf(*newest_.table, copies);
  CheckNobodyLacksAnything();
  if (newest_.table->nodes().size() != kNodes) {
    Breach(absl::StrCat("the table has ", newest_.table->nodes().size(), " nodes"));
  }
  if (progress.joining > 0 || progress.degraded > 0) {
    Breach(absl::StrCat(progress.joining, " joining, ", progress.degraded, " degraded"));
  }
  for (int i = 0; i < kNodes; ++i) {
    SimNode& node = *nodes_[i].life;
    std::string state;
    for (const std::string& trouble : node.member().status().troubles) {
      // Once in a while an answer takes longer than anybody waits, in good times too.
      if (trouble != "etcd does not answer") absl::StrAppend(&state, "; ", trouble);
    }
    if (!node.serves()) Breach(absl::StrCat("node ", i, " does not serve", state));
    if (node.table() == nullptr || node.table()->epoch() != newest_.epoch()) {
      Breach(absl::StrCat("node ", i, " goes by another table", state));
    }
    if (!state.empty()) Breach(absl::StrCat("node ", i, " has troubles", state));
  }
}

}  // namespace latentd::sim
