// Requests to the server. An error becomes an exception with the server's one line.

export class Ended extends Error {}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { 'X-Siammae': '1', ...options.headers } });
  } catch {
    throw new Error('the app does not answer; is it still running?');
  }
  if (answer.ok) return answer;
  const reason = await answer.json().then((body) => body.error).catch(() => null);
  throw new (answer.status === 410 ? Ended : Error)(reason || `the app failed (${answer.status}); its terminal says why`);
}

const json = async (path, options) => (await ask(path, options)).json();
const post = (path, body) => json(path, { method: 'POST', body: body === undefined ? undefined : JSON.stringify(body) });

export const about = () => json('/api/about');
export const example = () => post('/api/example');
export const removeProject = (id) => json(`/api/projects/${id}?remove`, { method: 'DELETE' });

// Send a video and report the share that has arrived; resolves with the state of the new project.
export function upload(file, report) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', '/api/projects');
    request.setRequestHeader('X-Siammae', '1');
    request.setRequestHeader('X-Name', encodeURIComponent(file.name));
    request.responseType = 'json';
    request.upload.onprogress = (event) => report(event.loaded / Math.max(event.total, 1));
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(new Error(request.response?.error || 'the upload failed')));
    request.onerror = () => reject(new Error('the upload broke off'));
    request.send(file);
  });
}

// One project of the server.
export class Project {
  constructor(id) {
    this.at = `/api/projects/${id}`;
  }
  state = () => json(this.at);
  edit = (change) => post(`${this.at}/edit`, change);
  propagate = () => post(`${this.at}/propagate`);
  stop = () => post(`${this.at}/stop`);
  prepare = (frame) => post(`${this.at}/frames/${frame}/prepare`);
  labels = (frame) => json(`${this.at}/frames/${frame}`);
  picture = async (frame) => createImageBitmap(await (await ask(`${this.at}/frames/${frame}.jpg`)).blob());
  view = async (frame, kind) => (await ask(`${this.at}/frames/${frame}/${kind}.png`)).blob();
  file = async (name) => (await ask(`${this.at}/files/${name}`)).blob();
  loadMask = (frame, file) => json(`${this.at}/frames/${frame}/mask`, { method: 'POST', body: file });
}
