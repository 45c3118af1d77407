#include "tools/svg_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace latentd {
namespace {

constexpr double kLeft = 80;
constexpr double kTop = 40;
constexpr double kPlotWidth = 460;
constexpr double kPlotHeight = 340;
constexpr double kWidth = 780;
constexpr double kHeight = 440;

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

// Where a value lies between the axis's ends, 0 to 1.
double Share(const PlotAxis& axis, double value) {
  const double clamped = std::clamp(value, axis.from, axis.to);
  if (!axis.logarithmic) return (clamped - axis.from) / (axis.to - axis.from);
  return std::log(clamped / axis.from) / std::log(axis.to / axis.from);
}

std::string Text(double x, double y, const char* anchor, const std::string& text) {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor,
                         Escaped(text));
}

std::string Straight(double x1, double y1, double x2, double y2) {
  return absl::StrFormat(
      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#bbb\"/>\n", x1, y1, x2, y2);
}

}  // namespace

SvgPlot::SvgPlot(std::string title, PlotAxis x, PlotAxis y)
    : title_(std::move(title)), x_(std::move(x)), y_(std::move(y)) {}

double SvgPlot::X(double value) const { return kLeft + kPlotWidth * Share(x_, value); }
double SvgPlot::Y(double value) const { return kTop + kPlotHeight * (1 - Share(y_, value)); }

void SvgPlot::Area(double x_from, double x_to, double y_from, double y_to,
                   const std::string& colour) {
  absl::StrAppendFormat(
      &areas_, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
      X(x_from), Y(y_to), X(x_to) - X(x_from), Y(y_from) - Y(y_to), colour);
}

void SvgPlot::Line(const Points& points, const std::string& colour, bool dashed) {
  absl::StrAppend(&marks_, "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"", colour, "\"",
                  dashed ? " stroke-dasharray=\"6 4\"" : "", " points=\"");
  for (const auto& [x, y] : points) absl::StrAppendFormat(&marks_, "%.1f,%.1f ", X(x), Y(y));
  marks_ += "\"/>\n";
}

void SvgPlot::Dots(const Points& points, const std::string& colour) {
  for (const auto& [x, y] : points) {
    absl::StrAppendFormat(&marks_,
                          "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" stroke=\"#222\"/>\n",
                          X(x), Y(y), colour);
  }
}

void SvgPlot::Legend(const std::string& text, const std::string& colour) {
  const double y = kTop + 20.0 * legend_lines_++;
  const double x = kLeft + kPlotWidth + 14;
  absl::StrAppendFormat(
      &legend_,
      "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" fill=\"%s\" stroke=\"#222\"/>\n", x,
      y, colour);
  legend_ += Text(x + 18, y + 11, "start", text);
}

std::string SvgPlot::ToString() const {
  std::string out = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"%.0f\" height=\"%.0f\" fill=\"white\"/>\n",
      kWidth, kHeight, kWidth, kHeight);
  out += areas_;
  const double bottom = kTop + kPlotHeight;
  const double right = kLeft + kPlotWidth;
  for (const double tick : x_.ticks) {
    out += Straight(X(tick), bottom, X(tick), bottom + 4);
    out += Text(X(tick), bottom + 18, "middle", absl::StrFormat("%g", tick));
  }
  for (const double tick : y_.ticks) {
    out += Straight(kLeft, Y(tick), right, Y(tick));
    out += Text(kLeft - 6, Y(tick) + 4, "end", absl::StrFormat("%g", tick));
  }
  out += Straight(kLeft, bottom, right, bottom) + Straight(kLeft, kTop, kLeft, bottom);
  out += marks_ + legend_;
  out += Text(kLeft, kTop - 18, "start", title_);
  out += Text(kLeft + kPlotWidth / 2, bottom + 40, "middle", x_.name);
  absl::StrAppendFormat(&out,
                        "<text x=\"18\" y=\"%.1f\" text-anchor=\"middle\" transform=\"rotate(-90 "
                        "18 %.1f)\">%s</text>\n",
                        kTop + kPlotHeight / 2, kTop + kPlotHeight / 2, Escaped(y_.name));
  return out + "</svg>\n";
}

}  // namespace latentd
