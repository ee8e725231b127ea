// The first view: open a video, take the example, or go on with a kept project.

import { about, example, removeProject, upload } from './api.js';

const $ = (id) => document.getElementById(id);
let loaded = about(); // what the server takes and keeps
loaded.catch(() => {});

export async function showStart(enter) {
  const limits = await (loaded = about());
  $('model').textContent = limits.model;
  $('kept').hidden = !limits.projects.length;
  $('projects').replaceChildren(...limits.projects.map((project) => {
    const item = document.createElement('li'), link = document.createElement('a'), when = document.createElement('span');
    link.href = `#${project.id}`;
    link.textContent = project.name;
    when.className = 'quiet';
    when.textContent = new Date(1000 * project.changed).toLocaleString();
    const drop = document.createElement('button');
    drop.className = 'small';
    drop.textContent = 'Delete…';
    drop.setAttribute('aria-label', `Delete ${project.name}`);
    drop.addEventListener('click', async () => {
      if (!window.confirm(`Delete ${project.name} with its labels and results?`)) return;
      await removeProject(project.id).catch(fail);
      showStart(enter);
    });
    item.append(link, when, drop);
    return item;
  }));
  return limits;
}

function fail(error) {
  $('start-error').textContent = error.message;
}

async function busy(text, work, enter) {
  $('start-error').textContent = '';
  $('uploading').hidden = false;
  $('upload').removeAttribute('value');
  $('upload-text').textContent = text;
  $('file').disabled = $('example').disabled = true;
  try {
    enter(await work());
  } catch (error) {
    fail(error);
  } finally {
    $('uploading').hidden = true;
    $('file').disabled = $('example').disabled = false;
    $('file').value = '';
  }
}

async function open(file, enter) {
  const limits = await loaded;
  const suffix = `.${file.name.split('.').pop().toLowerCase()}`;
  if (!limits.suffixes.includes(suffix)) return fail(new Error(`${file.name} is no video of a known kind; expected ${limits.suffixes.join(', ')}`));
  if (file.size > limits.maxBytes) return fail(new Error(`${file.name} is larger than ${limits.maxBytes >> 20} MiB, the most that the app takes`));
  return busy(`Opening ${file.name}`, () => upload(file, (share) => {
    $('upload').value = share;
    if (share === 1) $('upload').removeAttribute('value');
  }), enter);
}

export const uploads = () => !$('uploading').hidden;

export function wireStart(enter) {
  const drop = $('drop');
  $('file').addEventListener('change', () => $('file').files[0] && open($('file').files[0], enter).catch(fail));
  $('example').addEventListener('click', () => busy('Rendering the example clip', example, enter));
  for (const name of ['dragover', 'dragleave', 'drop']) {
    window.addEventListener(name, (event) => {
      if ($('start').hidden) return;
      event.preventDefault();
      drop.classList.toggle('over', name === 'dragover');
      if (name === 'drop' && event.dataTransfer.files[0]) open(event.dataTransfer.files[0], enter).catch(fail);
    });
  }
}
