#include "client/staged_publish.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

// The publish of a copy that is still being made.
class StagedPublish final : public Operation {
 public:
  StagedPublish(std::unique_ptr<Operation> publish, PayloadBuffer copy,
                std::unique_ptr<StreamMark> copied)
      : copy_(std::move(copy)), copied_(std::move(copied)), publish_(std::move(publish)) {}
  // The device may still write to the copy of a call that ended early.
  ~StagedPublish() override { copied_->Wait(); }

  absl::StatusOr<bool> Ready() override { return copied_->Reached(); }
  uint32_t initial_items() const override { return publish_->initial_items(); }
  Slot SlotOf(uint32_t item) const override { return publish_->SlotOf(item); }
  Placement placement() const override { return publish_->placement(); }
  absl::Status Build(const Target& target, std::span<const uint32_t> items,
                     std::vector<Built>* built) override {
    return publish_->Build(target, items, built);
  }
  absl::Status OnAnswer(std::span<const uint32_t> items, uint32_t tag, bool retried,
                        ExchangeResult result) override {
    return publish_->OnAnswer(items, tag, retried, std::move(result));
  }
  bool Tolerates(std::span<const uint32_t> items, const absl::Status& status) override {
    return publish_->Tolerates(items, status);
  }
  void Finish(absl::Status status) override { publish_->Finish(std::move(status)); }

 private:
  PayloadBuffer copy_;
  const std::unique_ptr<StreamMark> copied_;
  const std::unique_ptr<Operation> publish_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeStagedPublish(const ChunkRange& range,
                                                             std::span<const std::byte> records,
                                                             const Layout& layout,
                                                             ClientDevice& device,
                                                             CudaStream stream, DoneCallback done) {
  if (absl::Status s = device.Check("records", records.data()); !s.ok()) return s;
  PayloadBuffer copy = device.pinned_pool().Take(records.size());
  if (copy.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("records: no pinned memory for a copy of ", records.size(), " bytes"));
  }
  auto publish = MakePublish(range, copy.bytes(), layout, std::move(done));
  if (!publish.ok()) return publish.status();
  if (absl::Status s = device.Copy(copy.data(), records.data(), records.size(), stream); !s.ok()) {
    return s;
  }
  auto copied = device.Mark(stream);
  if (!copied.ok()) return copied.status();
  return std::make_unique<StagedPublish>(*std::move(publish), std::move(copy), *std::move(copied));
}

}  // namespace latentd
