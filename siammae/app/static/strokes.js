// The person's hand on the stage: pointers, wheel and keyboard become changes of the labels.

const NEAR = 10; // CSS pixels within which a click hits a point or the first corner
const DRAG = 5; // CSS pixels from which a press is a drag

export class Strokes {
  constructor(stage) {
    this.stage = stage;
    this.pointers = new Map();
    this.path = null; // of the stroke under way
    this.corners = []; // of the polygon under way
    this.corner = null; // first corner of a box that is drawn by keyboard
    const canvas = stage.canvas;
    const on = (name, handler, options) => canvas.addEventListener(name, handler.bind(this), options);
    on('pointerdown', this.down);
    on('pointermove', this.move);
    on('pointerup', this.up);
    on('pointercancel', this.cancel);
    on('pointerleave', () => { this.over = null; stage.draw(); });
    on('wheel', this.wheel, { passive: false });
    on('contextmenu', (event) => event.preventDefault());
    on('keydown', this.key);
    on('blur', () => { stage.cursor = null; stage.draw(); });
    on('focus', () => {
      if (this.pointers.size || !stage.size) return;
      stage.cursor ??= stage.size.map((side) => Math.round(side / 2));
      stage.draw();
    });
  }

  get look() {
    return this.stage.look;
  }

  // Tell the page about a finished gesture.
  tell(change) {
    this.stage.canvas.dispatchEvent(new CustomEvent('gesture', { detail: change }));
  }

  drop() {
    this.path = this.corner = null;
    this.corners = [];
    this.stage.draw();
  }

  down(event) {
    if (!this.stage.shown) return;
    const moves = this.look.tool === 'move' || event.button === 1 || this.look.space;
    if (event.button === 2 && this.look.tool !== 'select') return;
    if (!(moves && event.pointerType === 'touch')) event.preventDefault();
    this.pointers.set(event.pointerId, event);
    this.stage.cursor = null;
    this.stage.canvas.focus({ preventScroll: true });
    if (this.pointers.size === 2) return this.drop(); // a pinch begins
    this.stage.canvas.setPointerCapture(event.pointerId);
    this.panning = moves;
    if (moves) {
      this.stage.canvas.classList.add('dragging');
      return;
    }
    const place = this.stage.place(event);
    if (this.look.tool === 'polygon') return this.addCorner(place);
    this.path = [place];
    this.minus = event.button === 2 || event.altKey;
    this.held = this.look.tool === 'points' ? this.pointAt(place) : null;
    this.stage.draw();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    this.over = this.stage.size && this.stage.place(event);
    if (before && this.pointers.size === 2) this.pinch(before, event);
    else if (before && this.panning) {
      if (event.pointerType !== 'touch' || !this.stage.fitted) this.stage.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    } else if (before && this.path) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) this.path.push(this.stage.place(part));
    }
    if (before) this.pointers.set(event.pointerId, event);
    this.stage.draw();
  }

  pinch(before, event) {
    const [other] = [...this.pointers.values()].filter((pointer) => pointer.pointerId !== event.pointerId);
    const area = this.stage.canvas.getBoundingClientRect();
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const middle = [(event.clientX + other.clientX) / 2 - area.left, (event.clientY + other.clientY) / 2 - area.top];
    this.stage.zoom(apart(event) / Math.max(apart(before), 1), ...middle);
    this.stage.pan((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId)) return;
    this.stage.canvas.classList.remove('dragging');
    const path = this.path, { tool } = this.look;
    this.path = null;
    this.stage.draw();
    if (!path) return;
    const [first, last] = [path[0], path[path.length - 1]];
    const far = Math.hypot(last[0] - first[0], last[1] - first[1]) * this.stage.view.scale;
    if (tool === 'select') {
      if (far > DRAG) this.tell({ kind: 'box', path: [first, last] });
      else this.tell({ kind: 'click', place: last, plus: this.minus ? 0 : this.look.click });
    } else if (tool === 'points') {
      this.tell({ kind: 'point', number: this.held ?? this.look.point, moved: this.held !== null, place: last });
    } else this.tell({ kind: 'stroke', path });
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.path = null;
    this.stage.draw();
  }

  wheel(event) {
    const scrolls = document.documentElement.scrollHeight > window.innerHeight + 1;
    if (scrolls && !event.ctrlKey) return;
    event.preventDefault();
    const area = this.stage.canvas.getBoundingClientRect();
    this.stage.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - area.left, event.clientY - area.top);
  }

  addCorner(place) {
    const [first] = this.corners, reach = NEAR / this.stage.view.scale;
    if (this.corners.length >= 3 && Math.hypot(place[0] - first[0], place[1] - first[1]) < reach) return this.close();
    this.corners.push(place);
    return this.stage.draw();
  }

  close() {
    const path = this.corners;
    this.drop();
    if (path.length >= 3) this.tell({ kind: 'polygon', path });
  }

  pointAt([x, y]) {
    const reach = NEAR / this.stage.view.scale;
    const at = this.stage.shown.labels.points.findIndex((point) => point && Math.hypot(point[0] - x, point[1] - y) < reach);
    return at < 0 ? null : at + 1;
  }

  // Keys on the stage itself: a crosshair for those who use no pointer.
  key(event) {
    const { stage } = this, step = event.shiftKey ? 10 : 1;
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (event.key === 'Escape') this.drop();
    else if (event.key === 'Enter' && !event.ctrlKey && this.corners.length >= 3 && this.look.tool === 'polygon' && !stage.cursor) this.close();
    else if (!stage.cursor) return;
    else if (by) stage.cursor = stage.cursor.map((at, axis) => Math.min(Math.max(at + by[axis], 0), stage.size[axis] - 1));
    else if (event.key === 'Enter' && !event.ctrlKey) this.press(event.shiftKey || event.altKey);
    else if (event.key.toLowerCase() === 'x' && this.look.tool === 'select') {
      if (this.corner) this.tell({ kind: 'box', path: [this.corner, stage.cursor] });
      this.corner = this.corner ? null : stage.cursor;
    } else return;
    event.preventDefault();
    event.stopPropagation();
    stage.draw();
  }

  press(minus) {
    const place = this.stage.cursor, { tool } = this.look;
    if (tool === 'select') this.tell({ kind: 'click', place, plus: minus ? 0 : this.look.click });
    else if (tool === 'points') this.tell({ kind: 'point', number: this.look.point, moved: false, place });
    else if (tool === 'polygon') this.addCorner(place);
    else if (tool === 'brush' || tool === 'eraser') this.tell({ kind: 'stroke', path: [place] });
  }

  // Draw the gesture under way.
  paint(pen, dot) {
    const { look, path, stage } = this, color = stage.colorOf(look.object);
    pen.lineJoin = pen.lineCap = 'round';
    if (path && look.tool === 'select') {
      const [x, y] = path[0], [x1, y1] = path[path.length - 1];
      stage.dashed(() => pen.rect(x, y, x1 - x, y1 - y), dot);
    } else if (path && (look.tool === 'brush' || look.tool === 'eraser')) {
      pen.globalAlpha = 0.7;
      pen.strokeStyle = look.tool === 'eraser' ? '#ffffff' : color;
      pen.lineWidth = look.width;
      pen.beginPath();
      pen.moveTo(...path[0]);
      path.forEach(([x, y]) => pen.lineTo(x + 0.001, y));
      pen.stroke();
      pen.globalAlpha = 1;
    } else if (path && this.held) {
      const [x, y] = path[path.length - 1];
      stage.dashed(() => pen.arc(x, y, 9 * dot, 0, 7), dot);
    }
    const over = stage.cursor ?? this.over;
    if (this.corner) stage.dashed(() => pen.rect(...this.corner, over[0] - this.corner[0], over[1] - this.corner[1]), dot);
    if (this.corners.length) {
      stage.dashed(() => {
        pen.moveTo(...this.corners[0]);
        this.corners.slice(1).forEach((corner) => pen.lineTo(...corner));
        if (over) pen.lineTo(...over);
      }, dot);
      for (const [x, y] of this.corners) {
        pen.fillStyle = '#ffffff';
        pen.fillRect(x - 3 * dot, y - 3 * dot, 6 * dot, 6 * dot);
      }
    }
    if (over && !path && (look.tool === 'brush' || look.tool === 'eraser')) stage.dashed(() => pen.arc(...over, look.width / 2, 0, 7), dot);
  }
}
