// What latent-bench prints and writes of the cost model against measurements. Pure; any thread.
#ifndef LATENTD_TOOLS_MODEL_REPORT_H_
#define LATENTD_TOOLS_MODEL_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "tools/fanin.h"
#include "tools/model_check.h"

namespace latentd {

// The constants, each point with its predicted terms, and the verdict in figures.
std::string ModelCheckText(const ModelCheckReport& report);
nlohmann::json ModelCheckJson(const ModelCheckReport& report);

// The goals of docs/cost-model.md: 5 % from 512 rows on, 10 % from 16, 95 % of the choices good.
// True also where there is nothing to judge by.
bool MeetsGoals(const ModelCheckReport& report);

std::string FaninText(const FaninReport& report);
nlohmann::json FaninJson(const FaninReport& report);
// Latency and throughput over the requesters, measured (dots and lines) and predicted (dashed).
std::string FaninSvg(const FaninReport& report);

// Where the planner routes and where it fetches, over rows x tokens at one holder and so many steps;
// the dots are the points of the report, coloured by what was measured to be cheaper. A requester
// that can compute records anew, at so many us a token, also has the area where it does; 0: it
// cannot.
absl::StatusOr<std::string> FrontierSvg(const ModelCheckReport& report, uint32_t steps,
                                        double prefill_us_per_token);

}  // namespace latentd

#endif  // LATENTD_TOOLS_MODEL_REPORT_H_
