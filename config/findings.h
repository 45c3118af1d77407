// `Findings` gathers, while a configuration is read, what is wrong with it and where each value
// stood, so that a check that comes later can still point at the line.
//
// One thread; owns what it gathers.
#ifndef LATENTD_CONFIG_FINDINGS_H_
#define LATENTD_CONFIG_FINDINGS_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/fault.h"

namespace latentd {

struct Position {
  int line = 1;  // both count from 1
  int column = 1;
};

class Findings {
 public:
  // `known_paths` are all that the schema has, for suggestions.
  explicit Findings(std::string_view file, std::vector<std::string> known_paths = {})
      : file_(file), known_paths_(std::move(known_paths)) {}

  // The path that ends in the key `name`, if there is just one.
  std::optional<std::string> KnownPathOf(std::string_view name) const;

  // Where the text ends: what a parser finds missing there is told at that place and
  // not in a line that is not there.
  void SetEnd(Position end) { end_ = end; }

  void AddFault(Position position, std::string message);
  // A fault that leaves the value at `path` unknown.
  void AddFaultOf(const std::string& path, Position position, std::string message);

  // Whether the value at `path` is what the file says, or the default of a key that it leaves out.
  // A check that needs a value which is not known would find faults that are not there.
  bool IsKnown(const std::string& path) const;

  // Remembers where the value of a key stands. Paths are like "data.lanes[0].cache".
  void NotePosition(const std::string& path, Position position) { positions_[path] = position; }
  bool WasGiven(const std::string& path) const { return positions_.contains(path); }

  // A fault of the value at `path`; if it was not given, at the nearest enclosing one that was. The
  // message is preceded by the path.
  void AddFaultAt(const std::string& path, std::string_view message);

  bool ok() const { return faults_.empty(); }
  // In the order of the file.
  std::vector<ConfigFault> TakeFaults();

 private:
  std::string file_;
  std::vector<std::string> known_paths_;
  std::optional<Position> end_;
  std::map<std::string, Position> positions_;
  std::set<std::string> unknown_;  // paths
  std::vector<ConfigFault> faults_;
};

}  // namespace latentd

#endif  // LATENTD_CONFIG_FINDINGS_H_
