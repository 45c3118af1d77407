#include "tools/text_table.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("columns are aligned and lines have no trailing blanks") {
  TextTable table({"name", ">count", "note"});
  table.Add({"a", "1", "x"});
  table.Add({"longer", "12345"});
  CHECK(table.ToString() ==
        "name    count  note\n"
        "a           1  x\n"
        "longer  12345\n");
}

TEST_CASE("characters count, not bytes") {
  TextTable table({"µs", "x"});
  table.Add({"12", "y"});
  CHECK(table.ToString() == "µs  x\n12  y\n");
}

TEST_CASE("bytes are readable") {
  CHECK(HumanBytes(0) == "0 B");
  CHECK(HumanBytes(640) == "640 B");
  CHECK(HumanBytes(1536) == "1.5 KiB");
  CHECK(HumanBytes(256.0 * 1024 * 1024) == "256.0 MiB");
}

}  // namespace
}  // namespace latentd
