// The stage: one canvas for labelling and for results, with zoom, pan and pinch. Places are pixels of the frame, (0, 0) the centre
// of the top left one.

import { paint } from './paint.js';
import { Strokes } from './strokes.js';

export class Stage {
  constructor(canvas, look) {
    this.canvas = canvas;
    this.pen = canvas.getContext('2d');
    this.look = look; // { tool, object, width, opacity, hidden, colors, point, click }: what the person chose
    this.shown = null;
    this.view = { scale: 1, x: 0, y: 0 }; // of a pixel of the frame, and of its top left corner on the canvas, in CSS pixels
    this.fitted = true;
    this.cursor = null; // crosshair of the keyboard
    this.strokes = new Strokes(this);
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }

  open(width, height) {
    this.size = [width, height];
    this.shown = this.layer = this.cursor = null;
    this.fitted = true;
    this.canvas.parentElement.classList.toggle('tall', height > width);
    this.resize();
  }

  show(shown) {
    this.shown = shown;
    this.recolor();
  }

  recolor() {
    const ids = this.shown?.ids;
    this.layer = ids ? paint.color(ids, this.look.colors, this.look.opacity, this.look.object) : null;
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas, ratio = window.devicePixelRatio || 1;
    if (!clientWidth || !this.size) return;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    if (this.fitted) this.fit();
    else this.draw();
  }

  get whole() {
    const [width, height] = this.size;
    return Math.min(this.canvas.clientWidth / width, this.canvas.clientHeight / height);
  }

  fit() {
    const [width, height] = this.size, scale = this.whole;
    this.fitted = true;
    this.view = { scale, x: (this.canvas.clientWidth - width * scale) / 2, y: (this.canvas.clientHeight - height * scale) / 2 };
    this.changed();
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(Math.max(this.view.scale * factor, this.whole), Math.max(40, 4 * this.whole));
    const ratio = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio };
    if (scale <= this.whole * 1.0001) return this.fit();
    this.fitted = false;
    return this.pan(0, 0);
  }

  pan(dx, dy) {
    const [width, height] = this.size, { clientWidth, clientHeight } = this.canvas, view = this.view;
    const keep = (at, long, room) => (long <= room ? (room - long) / 2 : Math.min(Math.max(at, room - long), 0));
    view.x = keep(view.x + dx, width * view.scale, clientWidth);
    view.y = keep(view.y + dy, height * view.scale, clientHeight);
    this.changed();
  }

  changed() {
    this.draw();
    this.canvas.dispatchEvent(new CustomEvent('view', { detail: this.view.scale / this.whole }));
  }

  // Return the place on the frame of an event.
  place(event) {
    const area = this.canvas.getBoundingClientRect(), { scale, x, y } = this.view;
    return [(event.clientX - area.left - x) / scale - 0.5, (event.clientY - area.top - y) / scale - 0.5];
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = null;
      if (this.size) this.paint();
    });
  }

  paint() {
    const { pen, canvas, look, shown, view } = this, ratio = window.devicePixelRatio || 1, [width, height] = this.size;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (!shown) return;
    pen.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.x, ratio * view.y);
    pen.imageSmoothingEnabled = view.scale * ratio < 4;
    pen.drawImage(shown.picture, 0, 0, width, height);
    if (!look.hidden) {
      pen.imageSmoothingEnabled = false;
      if (this.layer) pen.drawImage(this.layer.canvas, 0, 0, width, height);
    }
    const dot = 1 / view.scale; // a CSS pixel
    pen.translate(0.5, 0.5);
    if (!look.hidden) this.paintLabels(dot);
    this.strokes.paint(pen, dot);
    if (this.cursor) this.paintCursor(dot);
  }

  paintLabels(dot) {
    const { pen, look, shown, layer } = this, [width] = this.size;
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    const badge = (x, y, text, color, round) => {
      pen.fillStyle = color;
      pen.strokeStyle = '#ffffff';
      pen.lineWidth = 1.5 * dot;
      pen.beginPath();
      if (round) pen.arc(x, y, 9 * dot, 0, 7);
      else pen.roundRect(x - 9 * dot, y - 9 * dot, 18 * dot, 18 * dot, 4 * dot);
      pen.fill();
      pen.stroke();
      pen.fillStyle = paint.on(color);
      pen.font = `bold ${11 * dot}px system-ui, sans-serif`;
      pen.fillText(text, x, y + 0.5 * dot);
    };
    if (layer) {
      const scale = width / shown.ids.width;
      for (const [id, { x, y, width: wide }] of layer.places) {
        const above = wide * scale < 30 * dot ? 22 * dot : 0; // the number stands above an object that it would hide
        badge(x * scale, y * scale - above, String(id), this.colorOf(id), false);
      }
    }
    shown.labels.points.forEach((point, i) => point && badge(point[0], point[1], String(i + 1), this.colorOf(i + 1), true));
    const prompt = look.tool === 'select' && shown.labels.prompts[look.object];
    if (!prompt) return;
    pen.lineWidth = 2 * dot;
    if (prompt.box) this.dashed(() => pen.rect(prompt.box[0], prompt.box[1], prompt.box[2] - prompt.box[0], prompt.box[3] - prompt.box[1]), dot);
    for (const [x, y, plus] of prompt.clicks) {
      pen.fillStyle = plus ? '#ffffff' : '#000000';
      pen.strokeStyle = plus ? '#000000' : '#ffffff';
      pen.beginPath();
      pen.arc(x, y, 6 * dot, 0, 7);
      pen.fill();
      pen.stroke();
      pen.beginPath();
      pen.moveTo(x - 3 * dot, y);
      pen.lineTo(x + 3 * dot, y);
      if (plus) {
        pen.moveTo(x, y - 3 * dot);
        pen.lineTo(x, y + 3 * dot);
      }
      pen.stroke();
    }
  }

  // Stroke a path so that it shows on any ground.
  dashed(path, dot) {
    const pen = this.pen;
    pen.lineWidth = 2 * dot;
    for (const [color, offset] of [['#000000', 0], ['#ffffff', 5 * dot]]) {
      pen.strokeStyle = color;
      pen.setLineDash([5 * dot, 5 * dot]);
      pen.lineDashOffset = offset;
      pen.beginPath();
      path();
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  paintCursor(dot) {
    const [x, y] = this.cursor, pen = this.pen;
    for (const [color, width] of [['#000000', 4], ['#ffffff', 2]]) {
      pen.strokeStyle = color;
      pen.lineWidth = width * dot;
      pen.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        pen.moveTo(x + 4 * dx * dot, y + 4 * dy * dot);
        pen.lineTo(x + 14 * dx * dot, y + 14 * dy * dot);
      }
      pen.stroke();
    }
  }

  colorOf = (number) => this.look.colors[(number - 1) % this.look.colors.length];
}
