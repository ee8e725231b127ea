// The page: one project is open at a time, named in the address after #, so that a reload comes back to it.

import { Ended, Project } from './api.js';
import { Frames } from './frames.js';
import { showFiles, showFrame, showObjects, showRun } from './panel.js';
import { wireKeys } from './keys.js';
import { Stage } from './stage.js';
import { showStart, uploads, wireStart } from './start.js';
import { Timeline } from './timeline.js';

const $ = (id) => document.getElementById(id);
const look = { tool: 'select', object: 1, width: 16, opacity: 0.45, hidden: false, colors: ['#3f90da'], point: 1, click: 1, space: false };
const stage = new Stage($('stage'), look);
const timeline = new Timeline((index) => visit(index));
let project = null, frames = null, state = null, limits = null, follow = false, polling = null, resting = null, working = 0;
let queue = Promise.resolve(); // changes go to the server one after another

// ---- opening and leaving

async function route() {
  const id = location.hash.slice(1);
  clearTimeout(polling);
  timeline.pause();
  project = frames = state = null;
  $('start-error').textContent = '';
  limits = await showStart(enter);
  look.colors = limits.colors;
  if (!id) return view('start');
  try {
    const found = new Project(id);
    await begin(found, await found.state());
  } catch (error) {
    history.replaceState(null, '', '#');
    view('start');
    $('start-error').textContent = error.message;
  }
  return undefined;
}

function enter(opened) {
  location.hash = opened.id;
}

function view(name) {
  $('start').hidden = name !== 'start';
  $('work').hidden = name !== 'work';
  document.querySelectorAll('.for-work').forEach((part) => { part.hidden = name !== 'work'; });
  $('project').textContent = name === 'work' ? `${state.name}: ${state.frames} frames, ${state.width} x ${state.height}, ${Number(state.fps.toFixed(2))} frames/s` : '';
  document.title = name === 'work' ? `${state.name} - siammae` : 'siammae';
}

async function begin(opened, first) {
  project = opened;
  state = first;
  frames = new Frames(project, show, complain);
  const kept = JSON.parse(sessionStorage.getItem(location.hash) || '{}');
  look.object = state.objects[kept.object] ? kept.object : Number(Object.keys(state.objects)[0]);
  view('work');
  stage.open(state.width, state.height);
  choose(kept.tool ?? (matchMedia('(pointer: coarse)').matches ? 'move' : 'select'));
  take(state);
  const index = timeline.nearest(Math.min(kept.frame ?? state.anchors[0] ?? state.trim[0], state.frames - 1));
  timeline.at(index);
  await frames.go(index);
  prepare(project, index);
  poll();
}

// ---- state

function take(next) {
  state = next;
  $('work').dataset.revision = state.revision;
  if (!state.objects[look.object] && !working) look.object = Number(Object.keys(state.objects)[0]);
  timeline.update(state);
  $('undo').disabled = !state.undo;
  $('redo').disabled = !state.redo;
  showObjects(state, look, frames?.shown?.labels.scores, acts);
  showRun(state, acts);
  showFiles(state, acts);
  const last = Math.max(frames?.shown?.labels.points.length ?? 0, 8);
  if ($('point').length !== last) $('point').replaceChildren(...Array.from({ length: last }, (_, i) => new Option(i + 1, i + 1)));
  $('point').value = look.point;
}

async function refresh() {
  const mine = project, next = await project.state();
  if (mine === project && next.revision >= state.revision) take(next);
}

function poll() {
  clearTimeout(polling);
  const active = state.job && (state.job.state === 'queued' || state.job.state === 'running');
  polling = setTimeout(async () => {
    const mine = project, before = state.revision;
    try {
      await refresh();
      if (mine !== project) return;
      if (follow && state.job?.frame != null && state.job.frame !== frames.index) {
        timeline.at(state.job.frame);
        await frames.go(state.job.frame);
      } else if (state.revision !== before && !working) await frames.again();
      if (!state.job || !['queued', 'running'].includes(state.job.state)) follow = false;
    } catch (error) {
      if (error instanceof Ended) return leave(error);
    }
    if (mine === project) poll();
    return undefined;
  }, active ? 300 : document.hidden ? 60000 : 5000);
}

function leave(error) {
  project = null;
  sessionStorage.removeItem(location.hash);
  history.replaceState(null, '', '#');
  route().then(() => { $('start-error').textContent = error.message; });
}

function show(shown) {
  timeline.at(shown.index);
  $('stage').dataset.revision = shown.labels.revision;
  stage.show(shown);
  showFrame(state, shown.labels);
  showObjects(state, look, shown.labels.scores, acts);
  const names = [...(stage.layer?.places ?? [])].map(([id, { area }]) => `${state.objects[id] ?? `object ${id}`} ${(100 * area).toFixed(1)} %`);
  const points = shown.labels.points.filter(Boolean).length;
  $('stage').setAttribute('aria-label', `Frame ${shown.index} of ${state.frames - 1}: ${[...names, ...(points ? [`${points} points`] : [])].join(', ') || 'no labels'}`);
  sessionStorage.setItem(location.hash, JSON.stringify({ frame: shown.index, object: look.object, tool: look.tool }));
}

async function visit(index) {
  follow = false;
  stage.strokes.drop();
  clearTimeout(resting);
  await frames.go(index);
  resting = setTimeout(prepare, 400, project, index);
}

// Let the server encode the frame at hand, so that the first box or click there is quick.
function prepare(mine, index) {
  if (mine && mine === project && frames.index === index && !timeline.timer) mine.prepare(index).then(() => mine === project && refresh()).catch(() => {});
}

function complain(error) {
  if (error instanceof Ended) return leave(error);
  const toast = $('toast');
  toast.textContent = error.message;
  toast.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { toast.hidden = true; }, 7000);
  return undefined;
}

// ---- changes

function change(edit, { jump = false } = {}) {
  const mine = project;
  queue = queue.then(async () => {
    if (mine !== project) return;
    working++;
    const sign = setTimeout(() => { $('busy').hidden = false; }, 250);
    try {
      const next = await edit();
      if (mine !== project) return;
      take(next);
      const touched = next.touched ?? [];
      if (jump && touched.length && !touched.includes(frames.index)) {
        timeline.at(touched[0]);
        await frames.go(touched[0]);
      } else await frames.again();
      poll();
    } catch (error) {
      complain(error);
    } finally {
      clearTimeout(sign);
      working--;
      if (!working) $('busy').hidden = true;
    }
  });
  return queue;
}

const acts = {
  choose(number) {
    look.object = number;
    showObjects(state, look, frames.shown?.labels.scores, acts);
    stage.recolor();
  },
  add() {
    const number = Math.max(0, ...Object.keys(state.objects).map(Number)) + 1;
    look.object = number; // what is drawn before the answer belongs to it already
    return change(() => project.edit({ do: 'name', object: number, name: '' }));
  },
  rename: (number, name) => change(() => project.edit({ do: 'name', object: number, name })),
  remove: (number) => change(() => project.edit({ do: 'remove', object: number })),
  undo: () => change(() => project.edit({ do: 'undo' }), { jump: true }),
  redo: () => change(() => project.edit({ do: 'redo' }), { jump: true }),
  trim: (start, stop, step) => change(() => project.edit({ do: 'trim', start, stop, step })),
  run: () => change(async () => { follow = true; return project.propagate(); }),
  stop: () => project.stop().then(take).then(poll).catch(complain),
  async download(name, button) {
    const text = button.textContent;
    button.disabled = true;
    button.textContent = 'Making…';
    try {
      const link = document.createElement('a');
      link.href = URL.createObjectURL(await project.file(name));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    } catch (error) {
      complain(error);
    } finally {
      button.disabled = false;
      button.textContent = text;
    }
  },
};

$('stage').addEventListener('gesture', ({ detail }) => {
  const frame = frames.index, object = look.object;
  timeline.pause();
  if (detail.kind === 'point') {
    change(() => project.edit({ do: 'point', frame, number: detail.number, place: detail.place }));
    if (!detail.moved) look.point = (look.point % $('point').length) + 1;
  } else if (detail.kind === 'click') {
    change(() => project.edit({ do: 'click', frame, object, place: detail.place, plus: detail.plus }));
  } else if (detail.kind === 'box' && $('fit').checked) {
    change(() => project.edit({ do: 'fit', frame, object, path: detail.path }));
  } else {
    const shape = detail.kind === 'stroke' ? look.tool : detail.kind;
    change(() => project.edit({ do: 'draw', frame, object, shape, path: detail.path, width: look.width }));
  }
});
$('stage').addEventListener('view', ({ detail }) => { $('zoom-fit').textContent = `${Math.round(100 * detail)} %`; });

// ---- tools and options

function choose(tool) {
  look.tool = tool;
  stage.strokes.drop();
  document.querySelectorAll('[data-tool]').forEach((button) => {
    button.setAttribute('aria-checked', button.dataset.tool === tool);
    button.tabIndex = button.dataset.tool === tool ? 0 : -1;
  });
  document.querySelectorAll('[data-for]').forEach((part) => { part.hidden = !part.dataset.for.split(' ').includes(tool); });
  $('stage').classList.toggle('hand', tool === 'move');
}

function setWidth(width) {
  look.width = Math.min(Math.max(Math.round(width), 1), 120);
  $('width').value = look.width;
  $('width-out').textContent = look.width;
  stage.draw();
}

// Let the arrow keys move within a group of radio buttons.
for (const group of document.querySelectorAll('[role=radiogroup]')) {
  group.addEventListener('keydown', (event) => {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const all = [...group.querySelectorAll('[role=radio]')], at = all.indexOf(document.activeElement);
    const next = all[(at + by + all.length) % all.length];
    next.focus();
    next.click();
    event.preventDefault();
    event.stopPropagation();
  });
}
document.querySelectorAll('[data-tool]').forEach((button) => button.addEventListener('click', () => choose(button.dataset.tool)));
document.querySelectorAll('[data-click]').forEach((button) => button.addEventListener('click', () => {
  look.click = Number(button.dataset.click);
  document.querySelectorAll('[data-click]').forEach((other) => {
    other.setAttribute('aria-checked', other === button);
    other.tabIndex = other === button ? 0 : -1;
  });
}));
$('width').addEventListener('input', () => setWidth(Number($('width').value)));
$('opacity').addEventListener('input', () => { look.opacity = $('opacity').value / 100; stage.recolor(); });
$('point').addEventListener('change', () => { look.point = Number($('point').value); });
$('remove-point').addEventListener('click', () => change(() => project.edit({ do: 'point', frame: frames.index, number: look.point, place: null })));
$('zoom-in').addEventListener('click', () => stage.zoom(1.5));
$('zoom-out').addEventListener('click', () => stage.zoom(1 / 1.5));
$('zoom-fit').addEventListener('click', () => stage.fit());
$('undo').addEventListener('click', acts.undo);
$('redo').addEventListener('click', acts.redo);
$('add').addEventListener('click', acts.add);
$('run').addEventListener('click', acts.run);
$('stop').addEventListener('click', acts.stop);
$('get-format').addEventListener('click', () => acts.download($('format').value, $('get-format')));
$('clear').addEventListener('click', () => change(() => project.edit({ do: 'clear', frame: frames.index })));
for (const id of ['trim-start', 'trim-stop', 'trim-step']) {
  $(id).addEventListener('change', () => acts.trim(Number($('trim-start').value), Number($('trim-stop').value) + 1, Number($('trim-step').value)));
}
$('mask-file').addEventListener('change', () => {
  const files = [...$('mask-file').files];
  $('mask-file').value = '';
  for (const file of files) {
    const number = files.length > 1 ? file.name.match(/(\d+)\.png$/i)?.[1] : frames.index;
    if (number === undefined) complain(new Error(`${file.name}: of several masks, each file's name ends in the number of its frame, such as 00012.png`));
    else change(() => project.loadMask(Number(number), file));
  }
});
document.querySelectorAll('[data-view]').forEach((button) => button.addEventListener('click', async () => {
  button.disabled = true;
  try {
    $('view').src = URL.createObjectURL(await project.view(frames.index, button.dataset.view));
    $('view-title').textContent = button.dataset.view === 'attention' ? 'The frame, and the attention of each head' : 'The features as colours';
    $('view').alt = $('view-title').textContent;
    $('view-box').showModal();
  } catch (error) {
    complain(error);
  } finally {
    button.disabled = false;
  }
}));
$('help').addEventListener('click', () => $('help-box').showModal());
$('home').addEventListener('click', (event) => { event.preventDefault(); location.hash = ''; });

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem('theme', name);
  timeline.draw();
}
const saved = localStorage.getItem('theme');
if (saved) theme(saved);
$('theme').addEventListener('click', () => {
  const dark = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  theme(dark === 'dark' ? 'light' : 'dark');
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => timeline.draw());

wireKeys({ look, stage, timeline, acts, choose, setWidth, isOpen: () => project !== null, objects: () => state.objects });
wireStart(enter);
window.addEventListener('hashchange', route);
window.addEventListener('beforeunload', (event) => {
  const running = state?.job && ['queued', 'running'].includes(state.job.state);
  const labelled = state && (state.anchors.length || state.pointAnchors.length);
  if (uploads() || working || (!limits?.kept && (running || labelled))) event.preventDefault();
});
route();
