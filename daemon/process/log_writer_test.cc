#include "daemon/process/log_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
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
  // What its thread had taken when the pipe filled is out of the queue already.
  std::string line = pipe.ReadLine();
  if (line == "0\n") line = pipe.ReadLine();
  CHECK(line.rfind("dropped 99", 0) == 0);
  CHECK(pipe.ReadLine() == "997\n");
  CHECK(pipe.ReadLine() == "998\n");
  CHECK(pipe.ReadLine() == "999\n");
  CHECK(writer.Flush(absl::Minutes(1)));
}

TEST_CASE("its end does not wait for a reader") {
  const Pipe pipe;
  pipe.Fill();
  LogWriter writer(pipe.writing_end(), 3, TellDropped);
  writer.Write("never read\n");
  CHECK_FALSE(writer.Flush(absl::Milliseconds(1)));
}

}  // namespace
}  // namespace latentd
