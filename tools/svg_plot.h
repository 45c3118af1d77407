// `SvgPlot` draws a picture of measurements: two axes, of which each may be logarithmic, with areas,
// lines and points, and a legend beside them. A value; one thread.
#ifndef LATENTD_TOOLS_SVG_PLOT_H_
#define LATENTD_TOOLS_SVG_PLOT_H_

#include <string>
#include <utility>
#include <vector>

namespace latentd {

struct PlotAxis {
  std::string name;
  double from = 0;  // above 0 on a logarithmic axis
  double to = 1;    // above `from`
  bool logarithmic = false;
  std::vector<double> ticks;
};

class SvgPlot {
 public:
  using Points = std::vector<std::pair<double, double>>;

  SvgPlot(std::string title, PlotAxis x, PlotAxis y);

  // What lies beyond the axes is drawn at their ends. Colours are SVG's: "#1f5fa8".
  void Area(double x_from, double x_to, double y_from, double y_to, const std::string& colour);
  void Line(const Points& points, const std::string& colour, bool dashed);
  void Dots(const Points& points, const std::string& colour);
  void Legend(const std::string& text, const std::string& colour);

  std::string ToString() const;

 private:
  double X(double value) const;
  double Y(double value) const;

  const std::string title_;
  const PlotAxis x_;
  const PlotAxis y_;
  std::string areas_;  // below all else
  std::string marks_;
  std::string legend_;
  int legend_lines_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_TOOLS_SVG_PLOT_H_
