"""Where what the cases ask comes from: functions and documents, which stay, and never line numbers."""

_PATCH, _QEMU = "the patch, ", "QEMU, "

# the Secondary's thread, and the Primary's, in the patch
INCOMING = f"{_PATCH}colo_process_incoming_thread()"
WAIT = f"{_PATCH}colo_wait_handle_message()"
PROCESS = f"{_PATCH}colo_process_checkpoint()"
TRANSACTION = f"{_PATCH}colo_do_checkpoint_transaction()"
# what both use
RECEIVE = f"{_PATCH}colo_receive_message()"
CHECK = f"{_PATCH}colo_receive_check_message()"
AHEAD = f"{_PATCH}note 3 under its sync points"
# states on the wire came later
SAVE = f"{_QEMU}colo_do_checkpoint_transaction()"
ROUND = f"{_QEMU}colo_incoming_process_checkpoint()"
VALUE = f"{_QEMU}colo_receive_message_value()"
LOADVM = f"{_QEMU}qemu_loadvm_state_main()"
STREAM = f"{_QEMU}docs/devel/migration/main.rst, Stream structure"
