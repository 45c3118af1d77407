// What real models asked, through real daemons: the answers are the models'.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"
#include "tools/expected.h"
#include "tools/trace.h"

namespace latentd::testing {
namespace {

using nlohmann::json;

std::vector<std::string> Traces() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(Runfile("tests/data"))) {
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void CheckReplay(int nodes, RecordFormat record) {
  Cluster cluster({.nodes = nodes, .record = record});
  const std::string report = FreshFolder("replay") + "/report.json";
  std::vector<std::string> argv = {Runfile("tools/latent-bench"),
                                   "--endpoint",
                                   cluster.endpoint(),
                                   "--json",
                                   report,
                                   "replay",
                                   "--record",
                                   std::string(RecordFormatName(record))};
  for (const std::string& trace : Traces()) argv.insert(argv.end(), {"--trace", trace});
  const CommandResult result = RunCommand(argv, Scaled(absl::Seconds(60)));
  INFO(result.out << result.err);
  REQUIRE(result.end.exit_code == 0);

  const json parsed = json::parse(ReadFile(report));
  CHECK(parsed["traces"].size() == Traces().size());
  for (const json& trace : parsed["traces"]) {
    INFO(trace.dump());
    CHECK(trace["nodes"] == nodes);
    CHECK(trace["rows_compared"].get<uint64_t>() > 0);
    CHECK(trace["rows_wrong"] == 0);
    CHECK(trace["out_relative_l2_max"].get<double>() <= kOutBound);
    CHECK(trace["lse_error_max"].get<double>() <= kLseBound);
  }
  // The chunks did lie on every node, and what is open goes with the client.
  for (int i = 0; i < nodes; ++i) {
    const v1::StatusResponse status = cluster.node(i).Status();
    CHECK(status.lanes(0).attend_requests() > 0);
    CHECK(status.lanes(0).chunks_open() == 0);
    CHECK(status.lanes(0).requests_in_flight() == 0);
  }
}

TEST_CASE("every recorded query gets the model's answer, on one, two and three daemons") {
  for (const int nodes : {1, 2, 3}) CheckReplay(nodes, RecordFormat::kBf16);
}

TEST_CASE("with fp8 records the answers are the reference's over the same records") {
  for (const int nodes : {1, 2, 3}) CheckReplay(nodes, RecordFormat::kFp8);
}

// A trace's records as chunks spread over the cluster's nodes in turn.
std::vector<ChunkData> Cut(const Trace& trace, RecordFormat format, uint32_t chunk_tokens,
                           Cluster& cluster, const Frontend& frontend) {
  const uint64_t record_bytes = RecordBytes(trace.geometry, format);
  std::vector<ChunkData> chunks;
  for (uint32_t first = 0; first < trace.tokens(); first += chunk_tokens) {
    const uint32_t tokens = std::min(chunk_tokens, trace.tokens() - first);
    const std::string& node = cluster.node(static_cast<int>(chunks.size()) % cluster.size()).id();
    ChunkData chunk{.id = frontend.IdOn(node, chunks.size()),
                    .tokens = tokens,
                    .layers = static_cast<uint32_t>(trace.layers.size()),
                    .geometry = trace.geometry,
                    .format = format};
    for (uint32_t layer = 0; layer < chunk.layers; ++layer) {
      const std::vector<std::byte> all = RecordsOf(trace, layer, format);
      const auto part = std::span(all).subspan(first * record_bytes, tokens * record_bytes);
      chunk.records.insert(chunk.records.end(), part.begin(), part.end());
    }
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

// Each step's query of each layer, with the recorded answer.
std::vector<Question> QuestionsOf(const Trace& trace, const std::vector<ChunkData>& chunks) {
  const uint64_t row_values = uint64_t{trace.heads} * trace.geometry.row_width();
  const uint64_t out_values = uint64_t{trace.heads} * trace.geometry.latent_width;
  std::vector<Question> questions;
  for (uint32_t layer = 0; layer < trace.layers.size(); ++layer) {
    const TraceLayer& recorded = trace.layers[layer];
    for (uint32_t step = 0; step < trace.steps; ++step) {
      Question question{.layer = layer, .scale = trace.scale, .heads = trace.heads, .tokens = 1};
      uint32_t left = trace.visible(step);
      for (const ChunkData& chunk : chunks) {
        const uint32_t visible = std::min(left, chunk.tokens);
        if (visible > 0) question.parts.push_back({&chunk, visible});
        left -= visible;
      }
      const auto slice = [&](const auto& values, uint64_t count) {
        return std::vector(values.begin() + static_cast<ptrdiff_t>(step * count),
                           values.begin() + static_cast<ptrdiff_t>((step + 1) * count));
      };
      question.rows = slice(recorded.queries, row_values);
      question.answer.out = slice(recorded.out, out_values);
      question.answer.lse = slice(recorded.lse, trace.heads);
      questions.push_back(std::move(question));
    }
  }
  return questions;
}

TEST_CASE("clients that share chunks, published out of order, all get the model's answers") {
  const auto trace = ReadTrace(Runfile("tests/data/mla-h16-tiny.safetensors"));
  REQUIRE(trace.ok());
  Cluster cluster({.nodes = 3});
  Frontend publisher(cluster.endpoint());
  const std::vector<ChunkData> chunks = Cut(*trace, RecordFormat::kBf16, 50, cluster, publisher);

  // Pieces of seven tokens, in any order, some of them twice.
  struct Piece {
    const ChunkData* chunk;
    uint32_t first;
  };
  std::vector<Piece> pieces;
  for (const ChunkData& chunk : chunks) {
    for (uint32_t first = 0; first < chunk.tokens; first += 7) pieces.push_back({&chunk, first});
  }
  std::mt19937_64 random(41);
  pieces.insert(pieces.end(), pieces.begin(), pieces.begin() + 9);
  std::shuffle(pieces.begin(), pieces.end(), random);
  for (const Piece& piece : pieces) {
    const uint32_t tokens = std::min(7u, piece.chunk->tokens - piece.first);
    REQUIRE(publisher.PublishPart(*piece.chunk, piece.first, tokens) == absl::OkStatus());
  }
  for (const ChunkData& chunk : chunks) REQUIRE(publisher.Seal(chunk) == absl::OkStatus());

  std::vector<Question> questions = QuestionsOf(*trace, chunks);
  std::shuffle(questions.begin(), questions.end(), random);
  VerifyingLoad load(questions, 4, absl::Seconds(20), AskThroughClient(cluster.endpoint()));
  CHECK(load.WaitForAnswers(5 * questions.size(), Scaled(absl::Seconds(60))));
  const Tally tally = load.Stop();
  CAPTURE(tally);
  CHECK(tally.wrong == 0);
  CHECK(tally.failed() == 0);
}

}  // namespace
}  // namespace latentd::testing
