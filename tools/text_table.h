// `TextTable` writes rows of text as aligned columns. A value; one thread.
#ifndef LATENTD_TOOLS_TEXT_TABLE_H_
#define LATENTD_TOOLS_TEXT_TABLE_H_

#include <string>
#include <vector>

namespace latentd {

class TextTable {
 public:
  // Columns whose head starts with '>' are aligned to the right (the sign is not shown).
  explicit TextTable(std::vector<std::string> heads);

  // Cells that are missing are empty.
  void Add(std::vector<std::string> cells);
  // Every line ends in a newline and has no trailing blanks.
  std::string ToString() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;  // the heads first
};

// "1.5 MiB", "640 B".
std::string HumanBytes(double bytes);
// `value` with so many digits behind the point.
std::string Fixed(double value, int digits);
// "1.2e-03".
std::string Scientific(double value);

}  // namespace latentd

#endif  // LATENTD_TOOLS_TEXT_TABLE_H_
