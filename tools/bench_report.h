// What latent-bench prints and writes of its measurements. Pure; any thread.
#ifndef LATENTD_TOOLS_BENCH_REPORT_H_
#define LATENTD_TOOLS_BENCH_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/latency.h"
#include "tools/replay.h"
#include "tools/trace.h"

namespace latentd {

std::string TracesText(const std::vector<Trace>& traces);
nlohmann::json TracesJson(const std::vector<Trace>& traces);

// One line for each trace and one for all; then the bytes; then the verdict in a sentence.
std::string ReplayText(const std::vector<ReplayReport>& reports);
nlohmann::json ReplayJson(const std::vector<ReplayReport>& reports);

std::string AttendLoadText(const AttendLoadOptions& options, const AttendLoadReport& report);
nlohmann::json AttendLoadJson(const AttendLoadOptions& options, const AttendLoadReport& report);

std::string EchoText(const std::vector<EchoReport>& reports);
nlohmann::json EchoJson(const std::vector<EchoReport>& reports);

}  // namespace latentd

#endif  // LATENTD_TOOLS_BENCH_REPORT_H_
