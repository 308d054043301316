// Own pictures: dropped, chosen as files, or taken by this machine's camera; they go to the studio's process alone.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { forgetPictures, set, showPicture } from "./store.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];

const MOST_NAMED = 3;

// One file is for all cameras, several are for one each. What became of each is said once all were tried.
export async function show(list, cameras) {
  const files = [...list]; // which is empty as soon as its input is
  const others = files.filter((file) => !TYPES.includes(file.type));
  const pictures = files.filter((file) => TYPES.includes(file.type));
  const problems = [];
  for (const [number, picture] of pictures.slice(0, cameras).entries()) {
    const { why } = await showPicture(picture, files.length > 1 ? number + 1 : null);
    if (why) problems.push(`${picture.name}: ${why}`);
  }
  if (others.length) problems.push(`${named(others)}: a picture is a JPEG, PNG or WebP file`);
  if (pictures.length > cameras) problems.push(`${named(pictures.slice(cameras))}: more pictures than cameras, which are ${cameras}`);
  if (problems.length) set({ problem: problems.join("; ") });
}

function named(files) {
  const more = files.length - MOST_NAMED;
  return files.slice(0, MOST_NAMED).map((file) => file.name).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

export function Pictures({ cameras }) {
  const [isFilming, film] = useState(false);
  const choose = ({ target }) => {
    show(target.files, cameras);
    target.value = ""; // so that the same files may be chosen again
  };
  return html`<details class="panel pictures" onToggle=${(event) => event.target.open || film(false)}><summary>Own pictures</summary>
    <p class="quiet">Drop one picture, to be seen four ways, or several, one for each camera. They never leave this machine.</p>
    <label>files <input type="file" accept=${TYPES.join()} multiple data-testid="picture-files" onChange=${choose} /></label>
    <div class="run"><button type="button" data-testid="picture-camera" aria-pressed=${isFilming} onClick=${() => film(!isFilming)}>Camera</button>
      <button type="button" data-testid="picture-forget" onClick=${forgetPictures}>First pictures again</button></div>
    ${isFilming && html`<${Film} end=${() => film(false)} />`}
  </details>`;
}

function Film({ end }) {
  const video = useRef();
  useEffect(() => {
    let stream = null;
    let isOver = false;
    const fail = () => {
      if (isOver) return;
      set({ problem: "no camera can be opened: the browser must be allowed to, and there must be one" });
      end();
    };
    // Over plain HTTP a browser has no camera, except for this machine's own pages.
    const camera = navigator.mediaDevices?.getUserMedia({ video: { width: { ideal: 640 } } });
    (camera ?? Promise.reject(new Error("no camera"))).then((opened) => {
      stream = opened;
      if (isOver) stop(stream);
      else video.current.srcObject = stream;
    }, fail);
    return () => {
      isOver = true;
      if (stream) stop(stream);
    };
  }, []);
  const take = async () => {
    const { videoWidth: width, videoHeight: height } = video.current;
    if (!width) return;
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    await showPicture(await canvas.convertToBlob({ type: "image/png" }), null);
  };
  return html`<video ref=${video} autoplay playsinline muted aria-label="what the camera sees"></video>
    <button type="button" data-testid="picture-take" onClick=${take}>Take the picture</button>`;
}

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());
