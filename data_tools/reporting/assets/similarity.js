// Runs after viewer.js: a click compares all points with the one clicked. Features are packed into a few bytes; the
// inner product of rows i and j is about sum_k weight[k] * code[i, k] * code[j, k].
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("packed-features").textContent);
  const bytes = Uint8Array.from(atob(data.code), (c) => c.charCodeAt(0));
  const code = new Int8Array(bytes.buffer), K = data.weight.length, N = code.length / K;
  const similarityTo = (row) => {
    const query = data.weight.map((w, k) => w * code[row * K + k]), out = new Float32Array(N);
    for (let i = 0, at = 0; i < N; i++) {
      let sum = 0;
      for (let k = 0; k < K; k++, at++) sum += query[k] * code[at];
      out[i] = Math.max(-1, Math.min(1, sum));
    }
    out[row] = 1;
    return out;
  };
  const heat = (values) => {
    const low = values.slice().sort()[Math.floor((values.length - 1) * data.low / 100)];
    const ramp = data.ramp, last = ramp.length - 1, colors = new Uint8Array(3 * values.length);
    values.forEach((value, i) => {
      const place = Math.max(0, Math.min(1, (value - low) / Math.max(1 - low, 1e-6))) * last;
      const step = Math.min(Math.floor(place), last - 1), share = place - step;
      const mix = (c) => Math.round(ramp[step][c] * (1 - share) + ramp[step + 1][c] * share);
      for (let c = 0; c < 3; c++) colors[3 * i + c] = mix(c);
    });
    return colors;
  };
  const mark = (viewer, cloud, colors, row) => {
    const p = viewer.pointAt(cloud, row);
    for (let i = 0; i < N; i++) {
      const q = viewer.pointAt(cloud, i);
      const away = Math.hypot(q[0] - p[0], q[1] - p[1], q[2] - p[2]);
      if (away <= 1.5 * data.radius) colors.set(away <= data.radius ? data.mark : data.edge, 3 * i);
    }
  };
  const report = PointViewer.prototype.report;
  PointViewer.prototype.report = function (row) {
    if (row >= 0) {
      const layer = this.layers[data.layer], values = similarityTo(row), colors = heat(values);
      mark(this, this.clouds[layer.cloud], colors, row);
      layer.values = values;
      this.gl.deleteBuffer(layer.color);
      layer.color = this.buffer(colors);
      if (this.layer !== data.layer) this.show(data.layer);
      this.root.dataset.picked = row;
      this.draw();
    }
    report.call(this, row);
  };
})();
