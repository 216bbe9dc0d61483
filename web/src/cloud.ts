/** The point cloud: three.js, drawn when something changes and not otherwise. */

import { interpolateInferno } from "d3-scale-chromatic";
import {
  Box3,
  BufferAttribute,
  BufferGeometry,
  Color,
  PerspectiveCamera,
  Points,
  PointsMaterial,
  Scene,
  Spherical,
  SRGBColorSpace,
  Vector3,
  WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { words } from "./words";

const FIELDS = 8; // x, y, z, score, r, g, b, heat
const STEP = Math.PI / 18;
const AWAY = 4; // of an object of side 2
const START: [number, number] = [Math.PI / 2 - 0.45, 0.35]; // above the part and a little to the right

export class CloudScene {
  readonly count: number;
  readonly #scene = new Scene();
  readonly #camera = new PerspectiveCamera(35, 1, 0.01, 100);
  readonly #renderer: WebGLRenderer;
  readonly #controls: OrbitControls;
  readonly #geometry = new BufferGeometry();
  readonly #watch: ResizeObserver;
  readonly #colours: { anomaly: Float32Array; own: Float32Array };
  #asked = 0;

  /** Throws a sentence where the browser has no WebGL. */
  constructor(
    readonly place: HTMLElement,
    rows: Float32Array,
  ) {
    this.count = Math.floor(rows.length / FIELDS);
    try {
      this.#renderer = new WebGLRenderer({ antialias: true, alpha: true });
    } catch {
      throw new Error(words.cloud.impossible);
    }
    this.#renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    place.append(this.#renderer.domElement);
    this.#geometry.setAttribute("position", new BufferAttribute(placed(rows, this.count), 3));
    this.#colours = coloured(rows, this.count);
    const material = new PointsMaterial({ size: grain(rows, this.count), vertexColors: true });
    this.#scene.add(new Points(this.#geometry, material));
    this.#controls = new OrbitControls(this.#camera, this.#renderer.domElement);
    this.#controls.enablePan = false;
    this.#controls.minDistance = 0.6;
    this.#controls.maxDistance = 8;
    this.#controls.addEventListener("change", () => this.#ask());
    this.#watch = new ResizeObserver(() => this.#fit());
    this.#watch.observe(place);
    this.#look(new Spherical(AWAY, ...START));
    this.#fit();
  }

  paint(byAnomaly: boolean): void {
    const colours = byAnomaly ? this.#colours.anomaly : this.#colours.own;
    this.#geometry.setAttribute("color", new BufferAttribute(colours, 3));
    this.#ask();
  }

  /** Turn or zoom by a key of the keyboard; false where the key means nothing here. */
  key(name: string): boolean {
    const at = new Spherical().setFromVector3(this.#camera.position);
    const moves: Record<string, () => void> = {
      ArrowLeft: () => (at.theta -= STEP),
      ArrowRight: () => (at.theta += STEP),
      ArrowUp: () => (at.phi -= STEP),
      ArrowDown: () => (at.phi += STEP),
      "+": () => (at.radius /= 1.2),
      "=": () => (at.radius /= 1.2),
      "-": () => (at.radius *= 1.2),
      Home: () => at.set(AWAY, ...START),
    };
    const move = moves[name];
    if (!move) return false;
    move();
    at.radius = Math.min(
      Math.max(at.radius, this.#controls.minDistance),
      this.#controls.maxDistance,
    );
    this.#look(at.makeSafe());
    return true;
  }

  close(): void {
    cancelAnimationFrame(this.#asked);
    this.#watch.disconnect();
    this.#controls.dispose();
    this.#geometry.dispose();
    this.#renderer.dispose();
    this.#renderer.forceContextLoss();
    this.#renderer.domElement.remove();
  }

  #look(from: Spherical): void {
    this.#camera.position.setFromSpherical(from);
    this.#controls.update();
    this.place.dataset.turned = `${from.theta.toFixed(2)} ${from.phi.toFixed(2)}`;
    this.#ask();
  }

  #fit(): void {
    const { clientWidth, clientHeight } = this.place;
    if (clientWidth === 0) return;
    this.#camera.aspect = clientWidth / clientHeight;
    this.#camera.updateProjectionMatrix();
    this.#renderer.setSize(clientWidth, clientHeight);
    this.#ask();
  }

  #ask(): void {
    cancelAnimationFrame(this.#asked);
    this.#asked = requestAnimationFrame(() => this.#renderer.render(this.#scene, this.#camera));
  }
}

/** Scores are 0 outside the object, and nowhere else but by chance. */
const ofObject = (rows: Float32Array, i: number): boolean => rows[i * FIELDS + 3] !== 0;

/** A size that closes the gaps between neighbours; the object is about 2 by 2 wide. */
function grain(rows: Float32Array, count: number): number {
  let n = 0;
  for (let i = 0; i < count; i++) if (ofObject(rows, i)) n++;
  return Math.min(Math.max(4.5 / Math.sqrt(n || count || 1), 0.008), 0.06);
}

/** The object in a cube of side 2 around the origin; the camera's y (down) and z (away) turned. */
function placed(rows: Float32Array, count: number): Float32Array {
  const box = new Box3();
  const point = new Vector3();
  for (const wanted of [ofObject, () => true]) {
    for (let i = 0; i < count; i++)
      if (wanted(rows, i)) box.expandByPoint(point.fromArray(rows, i * FIELDS));
    if (!box.isEmpty()) break;
  }
  const centre = box.getCenter(new Vector3());
  const size = box.getSize(new Vector3());
  const reach = Math.max(size.x, size.y, size.z, 1e-9) / 2;
  const out = new Float32Array(count * 3);
  for (let i = 0; i < count; i++) {
    point
      .fromArray(rows, i * FIELDS)
      .sub(centre)
      .divideScalar(reach);
    out.set([point.x, -point.y, -point.z], i * 3);
  }
  return out;
}

function coloured(rows: Float32Array, count: number) {
  const anomaly = new Float32Array(count * 3);
  const own = new Float32Array(count * 3);
  const ramp = Array.from({ length: 256 }, (_, i) => new Color(interpolateInferno(i / 255)));
  const colour = new Color();
  for (let i = 0; i < count; i++) {
    const [r, g, b, heat] = rows.subarray(i * FIELDS + 4, i * FIELDS + 8) as unknown as [
      number,
      number,
      number,
      number,
    ];
    colour.setRGB(r, g, b, SRGBColorSpace).toArray(own, i * 3);
    const grey = 0.25 + 0.6 * (0.299 * r + 0.587 * g + 0.114 * b);
    colour.setRGB(grey, grey, grey, SRGBColorSpace);
    colour.lerp(ramp[Math.round(heat * 255)]!, Math.sqrt(heat)).toArray(anomaly, i * 3);
  }
  return { anomaly, own };
}
