"use strict";
// A point viewer in plain WebGL 1: orbit, pan, zoom, layers of colours, a height cut, picking. No library, no network.
// new PointViewer(element, spec) where spec is what data_tools/reporting/viewer.py writes.
const POINT_VERTEX = `
attribute vec3 aPosition, aColor, aNormal;
uniform mat4 uMatrix;
uniform vec3 uLow, uSize, uEye;
uniform vec2 uRange;
uniform float uMode, uCut, uCull, uPointSize, uPixels;
varying vec3 vColor;
vec3 ramp(float t) {
  vec3 a = vec3(0.24, 0.18, 0.55), b = vec3(0.13, 0.47, 0.71), c = vec3(0.19, 0.72, 0.54);
  vec3 d = vec3(0.74, 0.86, 0.35), e = vec3(0.99, 0.72, 0.35);
  t = clamp(t, 0.0, 1.0) * 4.0;
  return t < 1.0 ? mix(a, b, t) : t < 2.0 ? mix(b, c, t - 1.0) : t < 3.0 ? mix(c, d, t - 2.0) : mix(d, e, t - 3.0);
}
void main() {
  vec3 p = uLow + aPosition * uSize;
  gl_Position = uMatrix * vec4(p, 1.0);
  bool away = uCull > 0.5 && dot(aNormal, aNormal) > 0.1 && dot(aNormal, uEye - p) < 0.0;
  if (p.z > uCut || away) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = clamp(uPointSize * uPixels / max(gl_Position.w, 0.001), 1.0, 40.0);
  float t = (p.z - uRange.x) / max(uRange.y - uRange.x, 0.000001);
  vColor = uMode < 0.5 ? aColor : uMode < 1.5 ? ramp(t) : aNormal * 0.5 + 0.5;
}`;
const POINT_FRAGMENT = `
precision mediump float;
varying vec3 vColor;
void main() {
  vec2 d = gl_PointCoord - 0.5;
  if (dot(d, d) > 0.25) discard;
  gl_FragColor = vec4(vColor, 1.0);
}`;
const LINE_VERTEX = "attribute vec3 aPosition; uniform mat4 uMatrix; void main() { gl_Position = uMatrix * vec4(aPosition, 1.0); }";
const LINE_FRAGMENT = "precision mediump float; uniform vec3 uColor; void main() { gl_FragColor = vec4(uColor, 1.0); }";
const MODES = { rgb: 0, height: 1, normal: 2 };
const FIELD = Math.tan((50 * Math.PI) / 360);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && typeof value !== "string") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function bytesOf(reference, blob) {
  if (typeof reference !== "string") return new Uint8Array(blob, reference[0], reference[1]);
  const text = atob(reference), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

class PointViewer {
  constructor(root, spec) {
    this.root = root;
    this.spec = spec;
    this.canvas = element("canvas", { class: "pv-canvas", tabindex: "0", "aria-label": "point cloud: " + spec.title });
    this.gl = this.canvas.getContext("webgl", { antialias: true, preserveDrawingBuffer: true });
    if (!this.gl) return this.fallBack("This browser has no WebGL: here is a picture instead.");
    if (spec.url) {
      this.say("loading the cloud …");
      fetch(spec.url).then((answer) => {
        if (!answer.ok) throw new Error(answer.status + " " + answer.statusText);
        return answer.arrayBuffer();
      }).then((blob) => {
        const length = new DataView(blob).getUint32(0, true);
        Object.assign(spec, JSON.parse(new TextDecoder().decode(new Uint8Array(blob, 4, length))));
        this.start(blob.slice(4 + length));
      }).catch((error) => this.fallBack("The cloud cannot be loaded: " + error.message));
    } else this.start(null);
  }

  say(text) {
    this.root.replaceChildren(element("p", { class: "pv-note" }, text));
  }

  fallBack(text) {
    this.say(text);
    if (this.spec.preview) this.root.append(element("img", { src: this.spec.preview, alt: this.spec.title, class: "pv-preview" }));
    this.root.classList.add("pv-plain");
  }

  start(blob) {
    const gl = this.gl;
    this.root.replaceChildren(this.canvas);
    this.points = this.program(POINT_VERTEX, POINT_FRAGMENT);
    this.strokes = this.program(LINE_VERTEX, LINE_FRAGMENT);
    this.clouds = this.spec.clouds.map((cloud) => {
      const bytes = bytesOf(cloud.position, blob);
      return {
        ...cloud,
        raw: new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2),
        rawNormal: cloud.normal ? new Int8Array(bytesOf(cloud.normal, blob)) : null,
        position: this.buffer(bytes),
        normal: cloud.normal ? this.buffer(bytesOf(cloud.normal, blob)) : null,
      };
    });
    this.layers = this.spec.layers.map((layer) => {
      const values = layer.values ? new Float32Array(bytesOf(layer.values, blob).slice().buffer) : null;
      return { ...layer, values, color: layer.color ? this.buffer(bytesOf(layer.color, blob)) : null };
    });
    this.lines = this.spec.lines && this.spec.lines.length ? new Float32Array(this.spec.lines) : null;
    if (this.lines) this.lineBuffer = this.buffer(this.lines);
    this.layer = 0;
    this.pointScale = 1;
    this.cut = 1;
    this.cull = this.clouds.some((cloud) => cloud.normal);
    this.showLines = true;
    this.controls();
    this.home();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  program(vertex, fragment) {
    const gl = this.gl, program = gl.createProgram();
    for (const [type, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    const uniform = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS); i++) {
      const name = gl.getActiveUniform(program, i).name;
      uniform[name] = gl.getUniformLocation(program, name);
    }
    const attribute = {};
    for (let i = 0; i < gl.getProgramParameter(program, gl.ACTIVE_ATTRIBUTES); i++) {
      const name = gl.getActiveAttrib(program, i).name;
      attribute[name] = gl.getAttribLocation(program, name);
    }
    return { program, uniform, attribute };
  }

  buffer(data) {
    const gl = this.gl, buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    return buffer;
  }

  // ---- camera: a target, a distance and two angles; z is up -------------------------------------------------------
  home() {
    const { low, size } = this.clouds[this.layers[this.layer].cloud];
    this.target = low.map((value, axis) => value + size[axis] / 2);
    const aspect = this.canvas.clientWidth / Math.max(this.canvas.clientHeight, 1) || 1;
    this.distance = (0.58 * Math.hypot(...size)) / (FIELD * Math.min(1, aspect)) + 0.001;
    this.azimuth = this.clouds[this.layers[this.layer].cloud].azimuth;
    this.elevation = 0.75;
    this.draw();
  }

  axes() {
    const [ca, sa] = [Math.cos(this.azimuth), Math.sin(this.azimuth)];
    const [ce, se] = [Math.cos(this.elevation), Math.sin(this.elevation)];
    return { back: [ce * ca, ce * sa, se], right: [-sa, ca, 0], up: [-se * ca, -se * sa, ce] };
  }

  eye() {
    const { back } = this.axes();
    return this.target.map((value, i) => value + back[i] * this.distance);
  }

  matrix() {
    const { back, right, up } = this.axes(), eye = this.eye();
    const near = this.distance / 200, far = this.distance * 20 + 100;
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const aspect = this.canvas.width / Math.max(this.canvas.height, 1);
    const f = 1 / FIELD, a = -(far + near) / (far - near), b = (-2 * far * near) / (far - near);
    const [x, y, z] = [-dot(right, eye), -dot(up, eye), -dot(back, eye)];
    const m = new Float32Array(16);
    for (let i = 0; i < 3; i++) m.set([(f / aspect) * right[i], f * up[i], a * back[i], -back[i]], 4 * i);
    m.set([(f / aspect) * x, f * y, a * z + b, -z], 12);
    return m;
  }

  // ---- drawing ----------------------------------------------------------------------------------------------------
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const gl = this.gl, ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) [this.canvas.width, this.canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    const shade = getComputedStyle(this.root).getPropertyValue("--pv-ground").trim() || "#ffffff";
    gl.clearColor(...[1, 3, 5].map((i) => parseInt(shade.slice(i, i + 2), 16) / 255), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    const layer = this.layers[this.layer], cloud = this.clouds[layer.cloud], matrix = this.matrix();
    const { program, uniform, attribute } = this.points;
    gl.useProgram(program);
    gl.uniformMatrix4fv(uniform.uMatrix, false, matrix);
    gl.uniform3fv(uniform.uLow, cloud.low);
    gl.uniform3fv(uniform.uSize, cloud.size);
    gl.uniform3fv(uniform.uEye, this.eye());
    gl.uniform2f(uniform.uRange, ...cloud.height);
    gl.uniform1f(uniform.uMode, MODES[layer.mode]);
    gl.uniform1f(uniform.uCut, this.cutHeight(cloud));
    gl.uniform1f(uniform.uCull, this.cull ? 1 : 0);
    gl.uniform1f(uniform.uPointSize, this.pointScale * cloud.spacing);
    gl.uniform1f(uniform.uPixels, height / (2 * FIELD));
    this.feed(attribute.aPosition, cloud.position, gl.UNSIGNED_SHORT, 6, true);
    this.feed(attribute.aColor, layer.color, gl.UNSIGNED_BYTE, 3, true);
    this.feed(attribute.aNormal, cloud.normal, gl.BYTE, 3, true);
    gl.drawArrays(gl.POINTS, 0, cloud.count);
    if (this.lines && this.showLines) {
      gl.useProgram(this.strokes.program);
      gl.uniformMatrix4fv(this.strokes.uniform.uMatrix, false, matrix);
      gl.uniform3f(this.strokes.uniform.uColor, 0.93, 0.35, 0.2);
      this.feed(this.strokes.attribute.aPosition, this.lineBuffer, gl.FLOAT, 0, false);
      gl.drawArrays(gl.LINES, 0, this.lines.length / 3);
    }
  }

  feed(place, buffer, type, stride, isNormalised) {
    const gl = this.gl;
    if (!buffer) {
      gl.disableVertexAttribArray(place);
      gl.vertexAttrib3f(place, 0, 0, 0);
      return;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, 3, type, isNormalised, stride, 0);
  }

  cutHeight(cloud) {
    return this.cut >= 1 ? 1e9 : cloud.height[0] + this.cut * (cloud.height[1] - cloud.height[0]);
  }

  // ---- picking: the point nearest to the viewer within a few pixels of the click -------------------------------------
  pick(x, y) {
    const layer = this.layers[this.layer], cloud = this.clouds[layer.cloud], m = this.matrix(), eye = this.eye();
    const box = this.canvas.getBoundingClientRect(), cut = this.cutHeight(cloud), radius = 7;
    let best = -1, least = Infinity;
    for (let i = 0; i < cloud.count; i++) {
      const p = this.pointAt(cloud, i);
      if (p[2] > cut) continue;
      const w = m[3] * p[0] + m[7] * p[1] + m[11] * p[2] + m[15];
      if (w <= 0 || w >= least) continue;
      const u = ((m[0] * p[0] + m[4] * p[1] + m[8] * p[2] + m[12]) / w + 1) * 0.5 * box.width - x;
      const v = (1 - (m[1] * p[0] + m[5] * p[1] + m[9] * p[2] + m[13]) / w) * 0.5 * box.height - y;
      if (u * u + v * v > radius * radius || (this.cull && this.isAway(cloud, i, p, eye))) continue;
      [best, least] = [i, w];
    }
    return best;
  }

  pointAt(cloud, i) {
    return [0, 1, 2].map((axis) => cloud.low[axis] + (cloud.raw[3 * i + axis] / 65535) * cloud.size[axis]);
  }

  isAway(cloud, i, p, eye) {
    const n = cloud.rawNormal;
    if (!n) return false;
    const facing = n[3 * i] * (eye[0] - p[0]) + n[3 * i + 1] * (eye[1] - p[1]) + n[3 * i + 2] * (eye[2] - p[2]);
    return facing < 0;
  }

  // a point as the input has it: the cloud may have been turned z-up to be shown
  place(cloud, index) {
    const p = this.pointAt(cloud, index), turn = this.spec.turn;
    return turn ? [0, 1, 2].map((axis) => turn[axis] * p[0] + turn[3 + axis] * p[1] + turn[6 + axis] * p[2]) : p;
  }

  report(index) {
    const layer = this.layers[this.layer], cloud = this.clouds[layer.cloud];
    if (index < 0) return void (this.readout.textContent = "");
    const text = this.place(cloud, index).map((value) => value.toFixed(3)).join(", ");
    const value = layer.values ? `  ${layer.name} ${layer.values[index].toPrecision(4)}` : "";
    this.readout.textContent = text + value;
    this.root.dispatchEvent(new CustomEvent("pick", { detail: { index, layer: layer.name, position: this.place(cloud, index) } }));
    if (navigator.clipboard) {
      navigator.clipboard.writeText(text).then(() => (this.readout.textContent = text + value + "  copied"), () => {});
    }
  }

  // ---- controls ---------------------------------------------------------------------------------------------------
  controls() {
    const slider = (label, min, max, step, value, change) => {
      const input = element("input", { type: "range", min, max, step, "aria-label": label });
      input.value = value;
      input.addEventListener("input", () => { change(Number(input.value)); this.draw(); });
      return element("label", {}, label, input);
    };
    const toggle = (label, value, change) => {
      const input = element("input", { type: "checkbox", checked: value });
      input.addEventListener("change", () => { change(input.checked); this.draw(); });
      return element("label", {}, input, label);
    };
    this.buttons = this.layers.map((layer, index) => {
      const button = element("button", { type: "button" }, layer.name);
      button.addEventListener("click", () => this.show(index));
      return button;
    });
    this.legend = element("ul", { class: "pv-legend" });
    this.readout = element("output", { class: "pv-readout" });
    const tools = element("div", { class: "pv-tools" });
    tools.append(slider("size", "0.3", "4", "0.1", "1", (value) => (this.pointScale = value)));
    tools.append(slider("height", "0.02", "1", "0.01", "1", (value) => (this.cut = value)));
    if (this.cull) tools.append(toggle("open near walls", true, (value) => (this.cull = value)));
    if (this.lines) tools.append(toggle("cameras", true, (value) => (this.showLines = value)));
    const reset = element("button", { type: "button", title: "whole cloud (key R)" }, "reset");
    reset.addEventListener("click", () => this.home());
    tools.append(reset);
    this.root.append(element("div", { class: "pv-layers" }, ...this.buttons), this.legend, this.readout, tools);
    this.show(0);
  }

  show(index) {
    const before = this.layers[this.layer].cloud;
    this.layer = index;
    this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    this.legend.replaceChildren(...(this.layers[index].legend || []).map(([name, color]) => {
      const mark = element("i");
      mark.style.background = color;
      return element("li", {}, mark, name);
    }));
    if (this.target && this.layers[index].cloud !== before && this.spec.apart) this.home();
    this.draw();
  }

  pan(dx, dy) {
    const { right, up } = this.axes(), step = (2 * FIELD * this.distance) / Math.max(this.canvas.clientHeight, 1);
    for (let i = 0; i < 3; i++) this.target[i] += (-dx * right[i] + dy * up[i]) * step;
    this.draw();
  }

  turn(dx, dy) {
    this.azimuth -= dx * 0.006;
    this.elevation = Math.min(1.57, Math.max(-1.57, this.elevation + dy * 0.006));
    this.draw();
  }

  zoom(factor) {
    this.distance = Math.min(1e5, Math.max(1e-3, this.distance * factor));
    this.draw();
  }

  listen() {
    const fingers = new Map(), canvas = this.canvas;
    let moved = 0;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.003));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      moved = fingers.size > 1 ? 99 : 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      moved += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 2) {
        const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
        const before = Math.hypot(last[0] - other[0], last[1] - other[1]);
        this.zoom(before / Math.max(1, Math.hypot(event.clientX - other[0], event.clientY - other[1])));
        this.pan(dx / 2, dy / 2);
      } else if (event.buttons & 6 || event.shiftKey) this.pan(dx, dy);
      else this.turn(dx, dy);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    const lift = (event) => {
      if (!fingers.delete(event.pointerId) || event.type !== "pointerup" || moved > 4) return;
      this.report(this.pick(...this.local(event)));
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("dblclick", (event) => {
      const index = this.pick(...this.local(event));
      if (index < 0) return;
      this.target = this.pointAt(this.clouds[this.layers[this.layer].cloud], index);
      this.zoom(0.6);
    });
    canvas.addEventListener("keydown", (event) => this.press(event));
    window.addEventListener("themechange", () => this.draw());
  }

  local(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  press(event) {
    const moves = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20] };
    if (moves[event.key]) (event.shiftKey ? this.pan(...moves[event.key]) : this.turn(...moves[event.key]));
    else if (event.key === "+" || event.key === "=") this.zoom(0.85);
    else if (event.key === "-") this.zoom(1.18);
    else if (event.key === "r") this.home();
    else if (event.key >= "1" && event.key <= "9" && this.layers[Number(event.key) - 1]) this.show(Number(event.key) - 1);
    else return;
    event.preventDefault();
  }
}

document.querySelectorAll("script.pv-data").forEach((script) => {
  new PointViewer(document.getElementById(script.dataset.target), JSON.parse(script.textContent));
});
