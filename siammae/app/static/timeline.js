// The timeline: one slider for the frame, play and step buttons, and marks of what each frame has.

const $ = (id) => document.getElementById(id);

export class Timeline {
  constructor(go) {
    this.go = go; // look at a frame; a promise
    this.state = null;
    this.timer = null;
    this.index = 0;
    $('frame').addEventListener('input', () => this.to(this.nearest(Number($('frame').value))));
    $('frame').addEventListener('keydown', (event) => event.key.startsWith('Arrow') && event.preventDefault());
    $('frame-number').addEventListener('change', () => this.to(this.nearest(Number($('frame-number').value))));
    $('previous').addEventListener('click', () => this.step(-1));
    $('next').addEventListener('click', () => this.step(1));
    $('play').addEventListener('click', () => this.toggle());
    new ResizeObserver(() => this.draw()).observe($('marks'));
  }

  update(state) {
    this.state = state;
    $('frame').max = $('frame-number').max = state.frames - 1;
    $('last').textContent = state.frames - 1;
    this.draw();
  }

  // Show where the stage is.
  at(index) {
    this.index = index;
    $('frame').value = index;
    if (document.activeElement !== $('frame-number')) $('frame-number').value = index;
    const seconds = (frame) => (frame / this.state.fps).toFixed(2);
    $('time').textContent = `${seconds(index)} s`;
    $('frame').setAttribute('aria-valuetext', `frame ${index} of ${this.state.frames - 1}, ${this.said(index)}`);
  }

  said(index) {
    const within = (spans) => spans.some(([first, last]) => first <= index && index <= last);
    const { state } = this, words = [];
    if (state.anchors.includes(index) || state.pointAnchors.includes(index)) words.push('labelled');
    else if (within(state.done)) words.push('propagated');
    for (const [number, spans] of Object.entries(state.lost)) if (within(spans)) words.push(`${state.objects[number] ?? number} lost`);
    return words.join(', ') || 'no labels';
  }

  // Return the frame to label that is nearest to a number.
  nearest(number) {
    const [start, stop, step] = this.state.trim, { anchors, pointAnchors } = this.state;
    const wish = Math.min(Math.max(Math.round(number) || 0, 0), this.state.frames - 1);
    if (step === 1 || wish < start || wish >= stop) return wish;
    const grid = Math.min(start + Math.round((wish - start) / step) * step, start + Math.floor((stop - 1 - start) / step) * step);
    return [...anchors, ...pointAnchors].reduce((best, anchor) => (Math.abs(anchor - wish) < Math.abs(best - wish) ? anchor : best), grid);
  }

  to(index) {
    this.pause();
    this.at(index);
    return this.go(index);
  }

  step(by) {
    const stride = this.state.trim[2];
    const beyond = this.index + by * stride;
    this.to(this.nearest(Math.min(Math.max(beyond, 0), this.state.frames - 1)));
  }

  // Go to the previous (-1) or next (1) labelled frame.
  labelled(by) {
    const all = [...new Set([...this.state.anchors, ...this.state.pointAnchors])].sort((a, b) => a - b);
    const found = by > 0 ? all.find((frame) => frame > this.index) : all.reverse().find((frame) => frame < this.index);
    if (found !== undefined) this.to(found);
  }

  toggle() {
    if (this.timer) this.pause();
    else this.play();
  }

  play() {
    const [start, stop, step] = this.state.trim;
    this.icon('pause');
    if (this.index + step >= stop) this.at(start);
    let due = performance.now();
    const next = async () => {
      const mine = this.timer, index = this.index + step;
      if (index >= stop) return this.pause();
      this.at(index);
      await this.go(index);
      if (this.timer !== mine) return undefined;
      due = Math.max(due + (1000 * step) / this.state.fps, performance.now());
      this.timer = setTimeout(next, due - performance.now());
      return undefined;
    };
    this.timer = setTimeout(next);
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.icon('play');
  }

  icon(name) {
    $('play').querySelector('use').setAttribute('href', `#i-${name}`);
    $('play').setAttribute('aria-label', name === 'play' ? 'Play' : 'Pause');
  }

  draw() {
    const canvas = $('marks'), { clientWidth: width, clientHeight: height } = canvas, ratio = window.devicePixelRatio || 1;
    if (!this.state || !width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext('2d'), style = getComputedStyle(document.documentElement), { state } = this;
    pen.scale(ratio, ratio);
    const room = 7, last = Math.max(state.frames - 1, 1), wide = (width - 2 * room) / last;
    const x = (frame) => room + frame * wide;
    const bar = (spans, top, tall, color) => {
      pen.fillStyle = color;
      for (const [a, b] of spans) pen.fillRect(x(a) - Math.max(wide / 2, 1), top, Math.max((b - a + 1) * wide, 2), tall);
    };
    const css = (name) => style.getPropertyValue(name).trim();
    bar([[0, last]], 16, 10, css('--raised'));
    bar([[state.trim[0], state.trim[1] - 1]], 16, 10, css('--line'));
    bar(state.done, 16, 10, '#6f9fd8');
    for (const spans of Object.values(state.doubtful)) bar(spans, 28, 4, '#e0a33a');
    for (const spans of Object.values(state.lost)) bar(spans, 33, 8, '#d93025');
    for (const frame of new Set([...state.anchors, ...state.pointAnchors])) {
      pen.fillStyle = css('--ink');
      pen.strokeStyle = css('--surface');
      pen.beginPath();
      pen.moveTo(x(frame), 2);
      pen.lineTo(x(frame) + 6, 8);
      pen.lineTo(x(frame), 14);
      pen.lineTo(x(frame) - 6, 8);
      pen.closePath();
      pen.fill();
      pen.stroke();
    }
  }
}
