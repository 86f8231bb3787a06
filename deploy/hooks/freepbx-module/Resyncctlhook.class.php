<?php
// FreePBX: after "Apply Config", run freepbx-postreload.sh, which stands beside this file and comes back at once.
namespace FreePBX\modules;

class Resyncctlhook implements \BMO {
    public function __construct($freepbx = null) {
    }

    public function postReload() {
        exec('sh ' . escapeshellarg(__DIR__ . '/freepbx-postreload.sh') . ' 2>&1', $said, $status);
        if ($status !== 0) {
            // Apply Config shall not fail for it.
            error_log('resyncctl hook: ' . implode(' ', $said));
        }
    }

    // What FreePBX wants every module to have.
    public function install() {
    }

    public function uninstall() {
    }

    public function backup() {
    }

    public function restore($backup) {
    }

    public function doConfigPageInit($page) {
    }
}
