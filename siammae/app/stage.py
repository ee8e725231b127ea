"""The canvas: the browser sends the path of each stroke in pixels of the frame, and the session draws it."""

TEMPLATE = """<div class="stage" data-w="${value.width}" data-h="${value.height}">
<img src="${value.picture}" alt="the frame, with its labels" draggable="false"><canvas></canvas></div>"""

CSS = """
.stage { position: relative; touch-action: none; cursor: crosshair; line-height: 0; }
.stage img { width: 100%; border-radius: 8px; user-select: none; }
.stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
"""

SCRIPT = """
let path = null;
const stage = () => element.querySelector('.stage');
function place(event) {
  const area = stage().querySelector('img').getBoundingClientRect(), { w, h } = stage().dataset;
  return [(event.clientX - area.left) / area.width * w - 0.5, (event.clientY - area.top) / area.height * h - 0.5];
}
function sketch() {
  const canvas = stage().querySelector('canvas'), { w, h } = stage().dataset;
  const chosen = document.querySelector('#number label:has(:checked)'), tool = document.querySelector('#tool :checked').value;
  if (canvas.width != w || canvas.height != h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext('2d');
  pen.clearRect(0, 0, w, h);
  pen.lineCap = pen.lineJoin = 'round';
  pen.globalAlpha = 0.6;
  pen.strokeStyle = pen.fillStyle = tool == 'Eraser' ? 'white' : getComputedStyle(chosen).borderLeftColor;
  const [first, last] = [path[0], path[path.length - 1]];
  if (tool == 'Box') {
    pen.fillRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
  } else if (tool != 'Points') {
    pen.lineWidth = document.querySelector('#width input[type=number]').value;
    pen.beginPath();
    pen.moveTo(first[0] + 0.5, first[1] + 0.5);
    path.forEach(([x, y]) => pen.lineTo(x + 0.5, y + 0.5));
    pen.stroke();
  }
}
element.addEventListener('pointerdown', (event) => {
  if (event.button || !event.target.closest('.stage')) return;
  event.preventDefault();
  path = [place(event)];
  sketch();
});
window.addEventListener('pointermove', (event) => {
  if (!path) return;
  path.push(place(event));
  sketch();
});
window.addEventListener('pointerup', () => {
  if (path) trigger('submit', { path });
  path = null;
});
"""
