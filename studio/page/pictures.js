// Own pictures: dropped, chosen as files, or taken by this machine's camera; they go to the studio's process alone.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { forgetPictures, set, showPicture } from "./store.js";

const TYPES = ["image/jpeg", "image/png", "image/webp"];

export async function show(files, cameras) {
  const pictures = [...files].filter((file) => TYPES.includes(file.type)).slice(0, cameras);
  if (!pictures.length) return set({ problem: "a picture is a JPEG, PNG or WebP file" });
  if (pictures.length === 1) return showPicture(pictures[0], null);
  for (const [number, picture] of pictures.entries()) await showPicture(picture, number + 1);
}

export function Pictures({ cameras }) {
  const [isFilming, film] = useState(false);
  return html`<details class="panel pictures"><summary>Own pictures</summary>
    <p class="quiet">Drop one picture, to be seen four ways, or several, one for each camera. They never leave this machine.</p>
    <label>files <input type="file" accept=${TYPES.join()} multiple data-testid="picture-files"
      onChange=${(event) => show(event.target.files, cameras)} /></label>
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
    navigator.mediaDevices?.getUserMedia({ video: { width: { ideal: 640 } } }).then(
      (opened) => {
        stream = opened;
        if (isOver) stop(stream);
        else video.current.srcObject = stream;
      },
      () => {
        set({ problem: "no camera can be opened: the browser must be allowed to, and there must be one" });
        end();
      },
    ) ?? end();
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
