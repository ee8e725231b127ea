// Shortcuts.

export function wireKeys({ look, stage, timeline, acts, choose, setWidth, isOpen, objects }) {
  const tools = { h: 'move', s: 'select', b: 'brush', e: 'eraser', p: 'polygon', k: 'points' };
  const keys = {
    '[': () => setWidth(look.width / 1.25 - 0.5),
    ']': () => setWidth(look.width * 1.25 + 0.5),
    ArrowLeft: (event) => timeline.step(event.shiftKey ? -10 : -1),
    ArrowRight: (event) => timeline.step(event.shiftKey ? 10 : 1),
    Home: () => timeline.to(timeline.nearest(timeline.state.trim[0])),
    End: () => timeline.to(timeline.nearest(timeline.state.trim[1] - 1)),
    ',': () => timeline.labelled(-1),
    '.': () => timeline.labelled(1),
    ' ': () => timeline.toggle(),
    '+': () => stage.zoom(1.5),
    '=': () => stage.zoom(1.5),
    '-': () => stage.zoom(1 / 1.5),
    0: () => stage.fit(),
    m: () => { look.hidden = !look.hidden; stage.draw(); },
    n: () => acts.add(),
    Enter: () => stage.strokes.corners.length >= 3 && stage.strokes.close(),
    Escape: () => stage.strokes.drop(),
    '?': () => document.getElementById('help-box').showModal(),
  };

  window.addEventListener('keydown', (event) => {
    const on = event.target, writes = on.matches('input:not([type=range]):not([type=checkbox]), select, textarea');
    if (!isOpen() || document.querySelector('dialog[open]')) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey || event.metaKey) {
      if (writes) return;
      if (key === 'z') (event.shiftKey ? acts.redo : acts.undo)();
      else if (key === 'y') acts.redo();
      else if (key === 'Enter') document.getElementById('run').click();
      else return;
      event.preventDefault();
      return;
    }
    if (writes || event.altKey || ((key === ' ' || key === 'Enter') && on.matches('button, a, summary, [type=checkbox]'))) return;
    if (tools[key]) choose(tools[key]);
    else if (/^[1-9]$/.test(key)) {
      const number = Number(key);
      if (objects()[number]) acts.choose(number);
    } else if (keys[key]) keys[key](event);
    else return;
    event.preventDefault();
  });
}
