#include "config/codec.h"

#include <catch2/catch.hpp>
#include <limits>

namespace latentd {
namespace {

template <typename V>
std::string RefusalOf(const Codec<V>& codec, const std::string& text) {
  const absl::StatusOr<V> value = codec.parse(text);
  return value.ok() ? "accepted" : std::string(value.status().message());
}

TEST_CASE("names are what can be part of a key") {
  const Codec<std::string> name = NameCodec();
  CHECK(name.parse("node-a.rack_1").value() == "node-a.rack_1");
  CHECK(RefusalOf(name, "") == "must not be empty");
  for (const char* text : {"demo/nodes", "a b", "../x", "a\n"}) {
    CHECK(RefusalOf(name, text) == absl::StrCat("'", text,
                                                "' is not a name without '/', spaces and control "
                                                "characters"));
  }
}

TEST_CASE("sizes are read with binary units and written with the largest that fits") {
  const Codec<uint64_t> size = SizeCodec(0);
  CHECK(size.parse("0").value() == 0);
  CHECK(size.parse("4096").value() == 4096);
  CHECK(size.parse("5B").value() == 5);
  CHECK(size.parse("60GiB").value() == 60 * kGiB);
  CHECK(size.parse("1TiB").value() == 1024 * kGiB);
  CHECK(size.format(0) == "0B");
  CHECK(size.format(60 * kGiB) == "60GiB");
  CHECK(size.format(1536 * kMiB) == "1536MiB");
  CHECK(size.format(4097) == "4097B");
}

TEST_CASE("what is not a size, or too large for 64 bits, is refused") {
  const Codec<uint64_t> size = SizeCodec(1 * kKiB, 1 * kGiB);
  for (const char* text :
       {"", "GiB", "60GB", "60gib", "60 GiB", "-1GiB", "1.5GiB", "0x10", "1e3"}) {
    CHECK(RefusalOf(size, text) ==
          absl::StrCat("'", text, "' is not a size such as 512MiB or 60GiB"));
  }
  for (const char* text : {"1", "2GiB", "99999999999TiB", "99999999999999999999"}) {
    CHECK(RefusalOf(size, text) ==
          absl::StrCat("'", text, "' is out of range: it must be 1KiB to 1GiB"));
  }
}

TEST_CASE("times are read in any unit and written with the largest that fits") {
  const auto time = DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 0, 3'600'000);
  CHECK(time.parse("3s").value() == 3000);
  CHECK(time.parse("250ms").value() == 250);
  CHECK(time.parse("5000us").value() == 5);
  CHECK(time.parse("1h").value() == 3'600'000);
  CHECK(time.format(3000) == "3s");
  CHECK(time.format(90'000) == "90s");
  CHECK(time.format(120'000) == "2m");
  CHECK(time.format(0) == "0us");
  CHECK(time.parse(time.format(0)).value() == 0);
}

TEST_CASE("a time needs a unit unless its key's name says it") {
  const auto time = DurationCodec(DurationUnit::kMillisecond, BareNumber::kRefused, 0, 10'000);
  CHECK(RefusalOf(time, "30") == "'30' has no unit: write a time such as 3s or 250ms");
  CHECK(RefusalOf(time, "3 s") == "'3 s' is not a time such as 3s or 250ms");
  CHECK(RefusalOf(time, "1m") == "'1m' is out of range: it must be 0us to 10s");
  CHECK(RefusalOf(time, "500us") == "'500us' is not a whole number of ms");
  CHECK(RefusalOf(time, "99999999999999999h") ==
        "'99999999999999999h' is out of range: it must be 0us to 10s");
  const auto spin_us = DurationCodec(DurationUnit::kMicrosecond, BareNumber::kInUnit, 0, 1000);
  CHECK(spin_us.parse("50").value() == 50);
  CHECK(spin_us.parse("1ms").value() == 1000);
  CHECK(spin_us.format(1000) == "1000");
  CHECK(RefusalOf(spin_us, "x") == "'x' is not a number of us or a time such as 250ms");
}

TEST_CASE("counts are whole numbers within bounds") {
  const Codec<uint64_t> count = CountCodec(1, 16);
  CHECK(count.parse("16").value() == 16);
  for (const char* text : {"", "two", "1.0", "1e3", "0x1", "+1", "-", "--1", "1 "}) {
    CHECK(RefusalOf(count, text) == absl::StrCat("'", text, "' is not a whole number"));
  }
  for (const char* text : {"0", "17", "-1", "99999999999999999999999"}) {
    CHECK(RefusalOf(count, text) ==
          absl::StrCat("'", text, "' is out of range: it must be 1 to 16"));
  }
}

TEST_CASE("numbers are finite, within bounds, and written so that they are read back exactly") {
  const Codec<double> number = NumberCodec(0, 1e12);
  CHECK(number.parse("1e4").value() == 10000);
  for (const double value : {0.1352337788608801, 1e12, 0.0, 1.0 / 3}) {
    CHECK(number.parse(number.format(value)).value() == value);
  }
  for (const char* text : {"", "nan", "inf", "1e999", "0,5", "1x", ".inf"}) {
    CHECK(RefusalOf(number, text) == absl::StrCat("'", text, "' is not a number"));
  }
  CHECK(RefusalOf(number, "-0.5") == "'-0.5' is out of range: it must be 0 to 1e+12");
}

TEST_CASE("flags are true or false and nothing else") {
  CHECK(FlagCodec().parse("true").value());
  CHECK_FALSE(FlagCodec().parse("false").value());
  for (const char* text : {"yes", "True", "1", ""}) CHECK_FALSE(FlagCodec().parse(text).ok());
}

TEST_CASE("devices are cpu or a numbered CUDA device") {
  CHECK(DeviceCodec().parse("cpu").value() == Device{DeviceKind::kCpu, 0});
  CHECK(DeviceCodec().parse("cuda:3").value() == Device{DeviceKind::kCuda, 3});
  CHECK(DeviceCodec().format({DeviceKind::kCuda, 3}) == "cuda:3");
  for (const char* text : {"", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:64", "CPU", "cpu:0"}) {
    CHECK_FALSE(DeviceCodec().parse(text).ok());
  }
}

TEST_CASE("a choice that is not there is answered with those that are") {
  const auto codec =
      ChoiceCodec<LogFormat>({{"text", LogFormat::kText}, {"json", LogFormat::kJson}});
  CHECK(codec.parse("json").value() == LogFormat::kJson);
  CHECK(codec.format(LogFormat::kText) == "text");
  CHECK(RefusalOf(codec, "jsn") == "'jsn' is not one of text, json (did you mean 'json'?)");
  CHECK(RefusalOf(codec, "xml") == "'xml' is not one of text, json");
}

TEST_CASE("an address to advertise is one that others can reach, without port") {
  CHECK(HostCodec().parse("node-a.example").ok());
  CHECK(RefusalOf(HostCodec(), "10.0.0.1:7400") ==
        "'10.0.0.1:7400' is not a host name or address: leave the port out");
  CHECK(RefusalOf(HostCodec(), "0.0.0.0") ==
        "'0.0.0.0' is an address to listen on, not one that others can reach");
}

TEST_CASE("an address that may be off is empty then") {
  CHECK(HostPortOrOffCodec().parse("off").value().empty());
  CHECK(HostPortOrOffCodec().format("") == "off");
  CHECK(RefusalOf(HostPortOrOffCodec(), "on") ==
        "'on' is not an address such as 10.0.0.1:7400 or [::1]:7400, nor off");
  CHECK(RefusalOf(HostPortCodec(PortZero::kRefused), "a:0") == "'a:0' has port 0");
}

}  // namespace
}  // namespace latentd
