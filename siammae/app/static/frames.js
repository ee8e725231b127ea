// The frame that is looked at: its picture and labels. The latest wish wins; pictures are kept.

import { paint } from './paint.js';

const KEPT = 48;

export class Frames {
  constructor(project, show, fail) {
    Object.assign(this, { project, show, fail, pictures: new Map(), index: 0, wanted: null, busy: false, shown: null });
  }

  // Look at a frame; resolves when it, or a later wish, is on the stage.
  async go(index) {
    this.index = this.wanted = index;
    if (this.busy) return this.working;
    this.busy = true;
    this.working = this.work().finally(() => { this.busy = false; });
    return this.working;
  }

  async work() {
    while (this.wanted !== null) {
      const index = this.wanted;
      this.wanted = null;
      try {
        const [picture, labels] = await Promise.all([this.picture(index), this.project.labels(index)]);
        const ids = labels.mask ? await paint.decode(labels.mask) : null;
        if (this.wanted === null || this.wanted === index) {
          this.shown = { index, picture, labels, ids };
          this.show(this.shown);
        }
      } catch (error) {
        if (this.wanted === null) this.fail(error);
      }
    }
  }

  picture(index) {
    let picture = this.pictures.get(index);
    if (!picture) {
      picture = this.project.picture(index);
      picture.catch(() => this.pictures.delete(index));
    }
    this.pictures.delete(index);
    this.pictures.set(index, picture);
    for (const old of this.pictures.keys()) {
      if (this.pictures.size <= KEPT) break;
      this.pictures.delete(old);
    }
    return picture;
  }

  again = () => this.go(this.index);
}
