// The panel: objects, the frame at hand, propagation and downloads.

import { paint } from './paint.js';

const $ = (id) => document.getElementById(id);

// Write seconds as people say them.
export function span(seconds) {
  if (seconds < 1) return 'less than a second';
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} minutes` : `${(seconds / 3600).toFixed(1)} hours`;
}

// Fill the list of objects; it is made again only where it differs.
export function showObjects(state, look, scores, act) {
  const list = $('objects'), key = JSON.stringify([state.objects, look.colors]);
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...Object.entries(state.objects).map(([number, name]) => row(Number(number), name, look, act)));
  }
  for (const item of list.children) {
    const number = Number(item.dataset.number), chosen = number === look.object, [score, lost] = scores?.[number] ?? [];
    item.classList.toggle('chosen', chosen);
    item.querySelector('.pick').setAttribute('aria-pressed', chosen);
    const sign = item.querySelector('.state');
    sign.classList.toggle('doubt', !lost);
    sign.textContent = lost ? 'lost' : score !== undefined && score < state.doubtBelow ? 'doubtful' : '';
  }
}

function row(number, name, look, act) {
  const item = document.createElement('li'), color = look.colors[(number - 1) % look.colors.length];
  item.dataset.number = number;
  const pick = document.createElement('button'), field = document.createElement('input'), sign = document.createElement('span');
  pick.className = 'pick';
  pick.textContent = number;
  pick.style.background = color;
  pick.style.color = paint.on(color);
  pick.setAttribute('aria-label', `Object ${number}: ${name}`);
  pick.addEventListener('click', () => act.choose(number));
  field.type = 'text';
  field.value = name;
  field.maxLength = 60;
  field.setAttribute('aria-label', `Name of object ${number}`);
  field.addEventListener('focus', () => act.choose(number));
  field.addEventListener('change', () => act.rename(number, field.value));
  field.addEventListener('keydown', (event) => event.key === 'Enter' && field.blur());
  sign.className = 'state';
  const drop = document.createElement('button');
  drop.className = 'drop-object';
  drop.setAttribute('aria-label', `Remove object ${number}`);
  drop.title = 'Remove this object from all labelled frames';
  drop.innerHTML = '<svg><use href="#i-close"/></svg>';
  drop.addEventListener('click', () => act.remove(number));
  item.append(pick, field, sign, drop);
  return item;
}

export function showFrame(state, labels) {
  const done = state.done.some(([first, last]) => first <= labels.frame && labels.frame <= last);
  const told = labels.anchor || labels.pointAnchor ? 'labelled by hand' : done ? 'propagated' : 'no labels yet';
  $('frame-info').textContent = `Frame ${labels.frame}: ${told}`;
  $('clear').disabled = !(labels.anchor || labels.pointAnchor);
}

// Show the choice of frames, the estimate, and how the propagation stands.
export function showRun(state, act) {
  const { job, estimate, trim } = state, active = job && (job.state === 'queued' || job.state === 'running');
  for (const [id, value] of [['trim-start', trim[0]], ['trim-stop', trim[1] - 1], ['trim-step', trim[2]]]) {
    $(id).max = state.frames - 1;
    if (document.activeElement !== $(id)) $(id).value = value;
  }
  const cost = $('estimate'), { frames, seconds } = estimate;
  cost.textContent = seconds === null ? `${frames} frames` : `${frames} frames, about ${span(seconds)}`;
  if (seconds > 60 && !active) {
    const offer = document.createElement('button');
    offer.className = 'linklike';
    offer.textContent = `Every ${trim[2] + 1 === 2 ? 'second' : `${trim[2] + 1}th`} frame: ${span((seconds * trim[2]) / (trim[2] + 1))}`;
    offer.addEventListener('click', () => act.trim(trim[0], trim[1], trim[2] + 1));
    cost.append('. ', offer);
  }
  const labelled = state.anchors.length + state.pointAnchors.length > 0;
  $('run').disabled = active || !labelled;
  $('stop').disabled = !active;
  const bar = $('bar'), text = $('progress');
  bar.hidden = !job;
  text.classList.toggle('failed', job?.state === 'failed');
  text.textContent = job ? toldOf(job, state) : labelled ? '' : 'Mark an object first.';
  if (job?.state === 'queued') bar.removeAttribute('value');
  else if (job) bar.value = job.total ? job.done / job.total : 1;
}

function toldOf(job, state) {
  const pace = job.done / Math.max(job.seconds, 1e-3), speed = `${pace >= 10 ? pace.toFixed(0) : pace.toFixed(2)} frames/s`;
  if (job.state === 'queued') return job.ahead ? `Waiting: ${job.ahead === 1 ? 'one propagation is' : `${job.ahead} propagations are`} before yours` : 'Starting';
  if (job.state === 'running') {
    if (!job.done) return `Starting: ${job.total || ''} frames`;
    return `${job.done} of ${job.total} frames, ${speed}, ${span((job.total - job.done) / pace)} left`;
  }
  if (job.state === 'failed') return job.message;
  if (job.state === 'stopped' && !job.total) return 'Stopped before it began; Propagate goes on';
  if (job.state === 'stopped') return `Stopped after ${job.done} of ${job.total}; Propagate goes on`;
  const changed = state.outdated ? '. Labels have changed since: Propagate again' : '';
  return job.total ? `Done: ${job.done} frames in ${span(job.seconds)}, ${speed}${changed}` : `Everything was propagated already${changed}`;
}

const FORMATS = {
  'coco.zip': 'COCO, with pictures', 'yolo.zip': 'YOLO, with pictures', 'cvat.zip': 'CVAT, with pictures', 'label-studio.zip': 'Label Studio, with pictures',
  'davis.zip': 'DAVIS, with pictures', 'mot.zip': 'MOT boxes, with pictures', 'cut-out.webm': 'Cut-out video (WebM with alpha)',
};

export function showFiles(state, act) {
  const place = $('files'), key = [...state.files, ...state.formats].join();
  if (place.dataset.key === key && place.childNodes.length) return;
  place.dataset.key = key;
  place.replaceChildren(...state.files.map((name) => {
    const button = document.createElement('button');
    button.className = 'small';
    button.textContent = name;
    button.dataset.file = name;
    button.addEventListener('click', () => act.download(name, button));
    return button;
  }));
  $('other-files').hidden = !state.formats.length;
  if (state.formats.length && !$('format').length) {
    $('format').replaceChildren(...state.formats.map((name) => new Option(FORMATS[name] ?? name, name)));
  }
  if (!state.files.length) place.textContent = 'Masks, tables and a video, once propagated.';
}
