// `Calibrator` measures what this node's lanes and links cost, at start, when a peer has come or
// restarted, and slowly for ever, and tells the others: each lane its attention over rows x tokens
// (lane_survey.h), each link by messages of several sizes both ways (client/pair_probe.h).
//
// One thing is timed at a time. What could not be
// measured is named in status(), logged once, and stays missing, or grows stale.
//
// Any thread, but Start and Stop, which are its owner's. Two threads of its own in between.
#ifndef LATENTD_DAEMON_CALIBRATION_CALIBRATOR_H_
#define LATENTD_DAEMON_CALIBRATION_CALIBRATOR_H_

#include <array>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/tls_files.h"
#include "daemon/calibration/calibration_status.h"
#include "daemon/calibration/cost_ledger.h"
#include "daemon/calibration/lane_survey.h"
#include "daemon/calibration/link_schedule.h"
#include "daemon/lane/lane.h"
#include "daemon/membership/membership.h"

namespace latentd {

struct CalibratorOptions {
  NodeId self;
  Generation generation{};
  RecordFormat format = RecordFormat::kBf16;
  TlsFiles tls;
  std::vector<std::string> transports;
  bool at_start = true;
  absl::Duration start_after = absl::Seconds(10);  // let sessions and copies come first
  absl::Duration period = absl::Hours(1);          // zero: only when asked
  LaneSurveyOptions lanes;
  uint64_t link_bytes_per_s = 4 << 20;  // 0: links are not timed
};

// The peers that answer, with their lives if those are known.
using ListPeers = std::function<std::vector<LinkPeer>()>;

class Calibrator {
 public:
  // What is to be measured; both have an index.
  enum Part : uint8_t { kCompute = 0, kLinks = 1 };
  static constexpr size_t kParts = 2;

  // The lanes and the membership must outlive Stop.
  Calibrator(CalibratorOptions options, std::vector<Lane*> lanes, Membership* membership,
             ListPeers peers);
  ~Calibrator();
  Calibrator(const Calibrator&) = delete;
  Calibrator& operator=(const Calibrator&) = delete;

  void Start();
  // Soon; while a peer that does not answer is being asked, within two seconds.
  // Again: nothing happens.
  void Stop();

  // Measures without pauses, still yielding to requests; returns when it is done, and what is under
  // way already counts. CANCELLED: the daemon stops. What could not be measured is in status().
  absl::Status Now(bool compute, bool links);

  v1::NodeCosts costs() const { return ledger_.message(); }
  CalibrationStatus status() const;

 private:
  struct Round {
    uint64_t asked = 0;  // Now's, so far
    uint64_t begun = 0;  // of those, when the last round began
    uint64_t done = 0;   // of those, when the last round ended
    bool under_way = false;
    absl::Time due;
  };

  void Run(Part part);
  // Returns once a round is due; true: the end.
  bool AwaitRound(Part part);
  void MeasureLanes();
  void MeasureLinks();
  absl::Status MeasureLink(const LinkPeer& peer);
  // For as long as it says, unless somebody asks for results now; true: the end.
  bool Rest(Part part, absl::Duration time);
  // For as long as it says; true: the end.
  bool BackOff(absl::Duration time);
  bool stopping() const;
  void Trouble(const std::string& of, const absl::Status& status);
  void Publish();

  const CalibratorOptions options_;
  const std::vector<Lane*> lanes_;
  Membership* const membership_;
  const ListPeers peers_;
  CostLedger ledger_;
  LinkSchedule schedule_;  // of the links' thread

  std::mutex quiet_;    // held by what is being timed: lanes and links would disturb each other
  std::mutex publish_;  // taken before the ledger is read for others
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::array<Round, kParts> rounds_;
  std::map<std::string, std::string> troubles_;  // "lane 0", "link to node-b" -> why
  uint64_t failures_ = 0;
  absl::Time lanes_measured_ = absl::InfinitePast();
  std::vector<std::thread> threads_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_CALIBRATION_CALIBRATOR_H_
