// What somebody probably meant by a name that is not known.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_SUGGEST_H_
#define LATENTD_CONFIG_SUGGEST_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace latentd {

// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`. Letters are
// equal whatever their case, and so are '-' and '_'.
size_t EditDistance(std::string_view a, std::string_view b);

// The name nearest to `text` (the first of several), if at most a third of its letters differ.
std::optional<std::string> Nearest(std::string_view text, const std::vector<std::string>& names);

}  // namespace latentd

#endif  // LATENTD_CONFIG_SUGGEST_H_
