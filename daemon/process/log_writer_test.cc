#include "daemon/process/log_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

class Pipe {
 public:
  Pipe() { REQUIRE(pipe(ends_) == 0); }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  int writing_end() const { return ends_[1]; }

  // As a reader that has stopped reading leaves it.
  size_t Fill() const {
    fcntl(ends_[1], F_SETFL, O_NONBLOCK);
    size_t bytes = 0;
    while (write(ends_[1], "x", 1) == 1) ++bytes;
    fcntl(ends_[1], F_SETFL, 0);
    return bytes;
  }
  std::string Read(size_t bytes) const {
    std::string text(bytes, '\0');
    size_t got = 0;
    while (got < bytes) {
      const ssize_t more = read(ends_[0], text.data() + got, bytes - got);
      REQUIRE(more > 0);
      got += static_cast<size_t>(more);
    }
    return text;
  }
  std::string ReadLine() const {
    std::string line;
    while (line.empty() || line.back() != '\n') line += Read(1);
    return line;
  }

 private:
  int ends_[2];
};

std::string TellDropped(uint64_t lines) { return absl::StrCat("dropped ", lines, "\n"); }

TEST_CASE("lines are written in order and Flush waits for them") {
  const Pipe pipe;
  LogWriter writer(pipe.writing_end(), 100, TellDropped);
  for (int i = 0; i < 10; ++i) writer.Write(absl::StrCat(i, "\n"));
  CHECK(writer.Flush(absl::Minutes(1)));
  CHECK(pipe.Read(20) == "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

TEST_CASE("while nobody reads, writing returns, the oldest lines go and are counted") {
  const Pipe pipe;
  const size_t before = pipe.Fill();
  LogWriter writer(pipe.writing_end(), 3, TellDropped);
  for (int i = 0; i < 1000; ++i) writer.Write(absl::StrCat(i, "\n"));
  CHECK_FALSE(writer.Flush(absl::ZeroDuration()));
  pipe.Read(before);
  // What its thread had taken when it found the pipe full is written, whichever line that was.
  int told = 0;
  std::string line = pipe.ReadLine();
  for (; line != "997\n"; line = pipe.ReadLine()) {
    CAPTURE(line);
    int dropped = 0;
    if (std::sscanf(line.c_str(), "dropped %d\n", &dropped) != 1) {
      REQUIRE(line == absl::StrCat(told, "\n"));
      dropped = 1;
    }
    told += dropped;
  }
  CHECK(told == 997);
  CHECK(pipe.ReadLine() == "998\n");
  CHECK(pipe.ReadLine() == "999\n");
  CHECK(writer.Flush(absl::Minutes(1)));
}

TEST_CASE("its end does not wait for a reader") {
  // Never closed: the writer's thread stays stuck in it, and closing would raise SIGPIPE there.
  static const Pipe& pipe = *new Pipe;
  pipe.Fill();
  LogWriter writer(pipe.writing_end(), 3, TellDropped);
  writer.Write("never read\n");
  CHECK_FALSE(writer.Flush(absl::Milliseconds(1)));
}

}  // namespace
}  // namespace latentd
