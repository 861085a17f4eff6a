// Holds a document of a Kubernetes extension, from standard input, against its published schema:
// first its values, then its fields' names, which the schema's types tell.
import { readFileSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";

const MODULES = {
  ScaledObject: "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject",
  ServiceMonitor: "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor",
};

const document = JSON.parse(readFileSync(0, "utf8"));
const { kind } = document;
const module = MODULES[kind];
const { [kind]: Model } = await import(module);
if (Model.apiVersion !== document.apiVersion) {
  throw new Error(`${kind}: apiVersion ${document.apiVersion}, not ${Model.apiVersion}`);
}
new Model(document).validate();

writeFileSync(
  `${kind}.ts`,
  `import type { I${kind} } from "${module}";\n` +
    `export const document: I${kind} = ${JSON.stringify(document, null, 2)};\n`,
);
const options = "--noEmit --strict --skipLibCheck --module nodenext --moduleResolution nodenext";
const checked = spawnSync("npx", ["tsc", ...options.split(" "), `${kind}.ts`], {
  encoding: "utf8",
});
process.stdout.write(checked.stdout + checked.stderr);
process.exitCode = checked.status;
