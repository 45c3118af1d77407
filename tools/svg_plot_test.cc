#include "tools/svg_plot.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

using Catch::Matchers::Contains;

SvgPlot Plot() {
  return SvgPlot("a < b & c", {.name = "rows", .from = 1, .to = 100, .logarithmic = true},
                 {.name = "us", .from = 0, .to = 10, .ticks = {5}});
}

TEST_CASE("a picture has its title, axes, ticks and legend, and no text that is markup") {
  SvgPlot plot = Plot();
  plot.Legend("route", "#123456");
  const std::string svg = plot.ToString();
  CHECK(svg.rfind("<svg ", 0) == 0);
  CHECK_THAT(svg, Contains("a &lt; b &amp; c") && Contains(">rows<") && Contains(">us<") &&
                      Contains(">5<") && Contains(">route<") && Contains("#123456"));
}

TEST_CASE("on a logarithmic axis the middle is the geometric one; what is beyond is at the end") {
  SvgPlot plot = Plot();
  plot.Dots({{10, 5}, {1000, -3}}, "#111");
  CHECK_THAT(plot.ToString(),
             Contains("cx=\"310.0\" cy=\"210.0\"") && Contains("cx=\"540.0\" cy=\"380.0\""));
}

TEST_CASE("areas lie below lines, whenever they were drawn") {
  SvgPlot plot = Plot();
  plot.Line({{1, 0}, {100, 10}}, "#111", true);
  plot.Area(1, 10, 0, 10, "#222");
  const std::string svg = plot.ToString();
  CHECK(svg.find("#222") < svg.find("polyline"));
  CHECK_THAT(svg, Contains("stroke-dasharray"));
}

}  // namespace
}  // namespace latentd
